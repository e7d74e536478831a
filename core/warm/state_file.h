/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of an image's file `state`: a header that each of them is checked by, and sections.
 * Depends on blocks.h.
 * Any bytes may be parsed; of what was built no bit can change without being noticed.
 */
#ifndef WARM_STATE_FILE_H
#define WARM_STATE_FILE_H

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "warm/image.h"

enum { STATE_MAX = 64 << 20 };

struct state_part {
	const void *data;
	size_t size;
};

/* Points into the bytes that it was parsed from. */
struct state_file {
	struct state_part parts[IMAGE_SECTIONS];
	u64 memory_size;
	struct state_part sums; /* blocks.h */
	struct hash128 hash; /* two states that differ have different ones */
};

/* ERROR_INVALID: more than STATE_MAX. */
MUST_CHECK struct error *state_file_build(const struct buf parts[IMAGE_SECTIONS], u64 memory_size,
					  const struct buf *sums, struct buf *out);

/* ERROR_FORMAT: damaged, or another version's, and how. */
MUST_CHECK struct error *state_file_parse(const void *data, size_t size, struct state_file *ret);

#endif
