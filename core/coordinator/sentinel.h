/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The report of last resort: "KTSTR_EXIT:<code>" among whatever a guest wrote to COM2.
 * Depends on base/types.h.
 * Only a whole one counts: a number with a line's end behind it, so that nothing cut short passes for 0.
 */
#ifndef COORDINATOR_SENTINEL_H
#define COORDINATOR_SENTINEL_H

#include <stddef.h>

#include "base/types.h"

/* The code of the last whole sentinel in text; false when there is none. */
bool sentinel_find(const void *text, size_t size, s32 *code);

#endif
