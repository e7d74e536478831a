/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pages that a restored machine touches in its first moments: noted once, then fetched before it starts.
 * Depends on base and kvm/memory.h.
 * A hint and no more: bytes that make no sense fetch nothing.
 */
#ifndef WARM_TOUCHED_H
#define WARM_TOUCHED_H

#include "base/buf.h"
#include "base/error.h"
#include "kvm/memory.h"

/* Most bytes that touched_record() gives. */
enum { TOUCHED_MAX = 256 << 10 };

/* What has been read and what written since the memory was mapped from its file (/proc/self/pagemap), as runs. */
MUST_CHECK struct error *touched_record(const struct guest_memory *memory, struct buf *out);

/* Maps them: those that were read from the file, those that were written as copies. Returns the bytes fetched. */
u64 touched_fetch(const struct guest_memory *memory, const void *data, size_t size);

#endif
