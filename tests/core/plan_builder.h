/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capture plans put together by hand: operations in their order, each with its tree.
 * Depends on base/buf.h and capture/plan.h.
 */
#ifndef TESTS_CORE_PLAN_BUILDER_H
#define TESTS_CORE_PLAN_BUILDER_H

#include <string.h>

#include "base/buf.h"
#include "capture/plan.h"

/* The bytes of a plan; every path is the text "here", at 0; "there" is at 5. */
static inline struct buf build_plan_bytes(struct plan_header header, const struct plan_op *ops, u32 count)
{
	static const char text[] = "here\0there";
	struct buf b = BUF_INIT;

	header.magic = PLAN_MAGIC;
	header.ops = count;
	header.text_size = sizeof(text);
	header.cpus = header.cpus ? header.cpus : 1;
	header.max_bytes = header.max_bytes ? header.max_bytes : 1 << 20;
	header.max_ns = header.max_ns ? header.max_ns : UINT64_MAX;
	header.max_steps = header.max_steps ? header.max_steps : 1 << 20;
	buf_put(&b, &header, sizeof(header));
	buf_put(&b, ops, count * sizeof(*ops));
	buf_put(&b, text, sizeof(text));
	return b;
}

#endif
