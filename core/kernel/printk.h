/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The newest records of a kernel's log: who said what, out of its printk ring buffer.
 * Depends on kernel/view.h. Where things lie in the ring is the caller's to say, who has the kernel's types.
 * The guest may run, and may write anything there: what makes no sense ends the walk, which is bounded.
 */
#ifndef KERNEL_PRINTK_H
#define KERNEL_PRINTK_H

#include "base/error.h"
#include "base/types.h"
#include "kernel/view.h"

/* Offsets within their structs, sizes, an address; lua/ktstr/capture/log.lua makes it, in this order. */
struct printk_layout {
	u64 prb; /* address of the kernel's pointer to the ring in use; 0: nobody knows it */
	/* of struct printk_ringbuffer */
	u64 count_bits, descs, infos, head_id, tail_id, size_bits, text;
	/* of struct prb_desc */
	u64 desc_size, state, begin, next;
	/* of struct printk_info */
	u64 info_size, seq, text_len, facility;
};

enum { PRINTK_TEXT_MAX = 1024 }; /* what is more of a record's text is left out */

struct printk_record {
	u64 seq;
	u32 facility; /* 0: the kernel itself, which no program in the guest can pretend to be */
	u32 size;
	char text[PRINTK_TEXT_MAX + 1]; /* terminated; a NUL in it is the guest's */
};

/*
 * Calls look(ctx, record) for each of the last `most` records, the newest first, until it returns false. Those that
 * are being written, or have no text any more, are left out. ERROR_FORMAT: this is no ring; errors of view_read().
 */
MUST_CHECK struct error *printk_look_back(const struct view *v, const struct printk_layout *layout, u32 most,
					  bool (*look)(void *ctx, const struct printk_record *record), void *ctx);

#endif
