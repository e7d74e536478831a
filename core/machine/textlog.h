/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest wrote to a serial port: bytes by their absolute offset, the oldest dropped beyond a bound.
 * Depends on base. Any thread; one writer at a time is enough for nobody to wait long.
 */
#ifndef MACHINE_TEXTLOG_H
#define MACHINE_TEXTLOG_H

#include <pthread.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/types.h"

struct textlog {
	pthread_mutex_t lock;
	u8 *data; /* a ring of capacity bytes, grown up to limit */
	size_t capacity, limit;
	u64 end; /* offset behind the last byte */
	u64 start; /* offset of the oldest byte kept */
};

MUST_CHECK struct error *textlog_init(struct textlog *log, size_t limit);
void textlog_deinit(struct textlog *log);
/* Never fails: when memory is short, the oldest bytes go. */
void textlog_append(struct textlog *log, const void *data, size_t n);
/* Makes it as if those bytes, the first of them at that offset, were all that is left of what was written. */
void textlog_restore(struct textlog *log, u64 start, const void *data, size_t n);
/* Bytes from offset from (or the oldest kept) to the end are put into out. Returns the end's offset. */
u64 textlog_read(struct textlog *log, u64 from, struct buf *out);

#endif
