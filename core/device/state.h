/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the device_state_ops of all devices have in common: a version in front, nothing left over behind.
 * Depends on base/buf.h.
 * A load reads everything into locals, calls state_check(), checks meaning, and only then changes the device.
 */
#ifndef DEVICE_STATE_H
#define DEVICE_STATE_H

#include <inttypes.h>

#include "base/buf.h"

/* The section's bytes are all read, none too many, and its version is the one we write. */
static inline MUST_CHECK struct error *state_check(const struct reader *in, const char *name, u32 version,
						   u32 expected)
{
	struct error *err = reader_check(in, name);

	if (err)
		return err;
	if (version != expected)
		return error_create(ERROR_FORMAT, "saved %s has version %" PRIu32 ", this ktstr reads %" PRIu32,
				    name, version, expected);
	if (reader_left(in))
		return error_create(ERROR_FORMAT, "saved %s has %zu bytes too many", name, reader_left(in));
	return NULL;
}

/* A flag is 0 or 1. */
static inline MUST_CHECK bool state_get_bool(struct reader *in, bool *ok)
{
	u8 v = reader_get_u8(in);

	*ok = *ok && v <= 1;
	return v == 1;
}

#endif
