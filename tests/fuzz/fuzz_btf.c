// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Makes a set of types from bytes and reads all that there is in it, then a split upon it. The first byte picks
 * whether the input is a blob or changes to a good one, and whether it is the kernel's or the split's.
 */
#include <stdlib.h>

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

#include "../core/btf_builder.h"
#include "../core/btf_walk.h"
#include "kernel/types.h"
#include "patches.h"

enum { CHANGES = 1 << 0,
       SPLIT = 1 << 1 };

/* A good one of each, and the set of the first, made once. */
struct good {
	struct buf blob, split;
	struct types *t;
};

static const struct good *good(void)
{
	static struct good g;
	struct every e;
	struct split s;

	if (g.t)
		return &g;
	g.blob = build_every_kind(&e);
	g.split = build_split(&e, &s);

	struct error *err = types_create(g.blob.data, g.blob.size, NULL, &g.t);

	CHECK(!err);
	return &g;
}

static void read_types(const void *data, size_t size, const struct types *base)
{
	struct types *t;
	struct error *err = types_create(data, size, base, &t);

	if (err) {
		CHECK(error_code(err) == ERROR_FORMAT || error_code(err) == ERROR_UNSUPPORTED);
		error_destroy(err);
		return;
	}
	walk_types(t);
	if (!base)
		read_types(good()->split.data, good()->split.size, t);
	types_destroy(t);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct good *g = good();
	struct buf blob = BUF_INIT;

	if (!size)
		return 0;

	u8 how = data[0];
	const struct buf *from = how & SPLIT ? &g->split : &g->blob;

	if (how & CHANGES) {
		buf_put(&blob, from->data, from->size);
		apply_patches(&blob, data + 1, size - 1);
	} else {
		buf_put(&blob, data + 1, size - 1);
	}
	read_types(blob.data, blob.size, how & SPLIT ? g->t : NULL);
	buf_deinit(&blob);
	return 0;
}
