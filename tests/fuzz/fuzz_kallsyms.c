// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kallsyms in any bytes, and in good tables with changes. They are refused, or the symbols agree with themselves and
 * the image. The first byte picks what the rest is: bytes, or changes to the tables of a layout.
 */
#include "../core/kallsyms_builder.h"
#include "../core/symbol_checks.h"
#include "kernel/kallsyms.h"
#include "patches.h"

enum {
	KINDS = 6,
	SYMBOLS = 24,
};

#define VIRT (BUILT_SYMBOLS_START + 0x200000)

static const struct kallsyms_image image = {
	.start = BUILT_SYMBOLS_START,
	.end = BUILT_SYMBOLS_END,
	.percpu_size = BUILT_SYMBOLS_PERCPU,
};

/* Good tables of each kind, made once; the last kind needs two markers. */
static const struct buf *good(u32 kind)
{
	static struct buf files[KINDS];
	const struct kallsyms_options o = {
		.layout = kind % 3,
		.align = kind % 3 == KALLSYMS_SELF ? 4 : 8,
		.absolute = kind % 3 != KALLSYMS_SELF && kind != 4,
		.no_seqs = kind == 3,
		.virt = VIRT,
	};

	if (!files[kind].size) {
		struct built_list list = build_symbol_list(kind == KINDS - 1 ? 260 : SYMBOLS, o.absolute);

		build_kallsyms(&files[kind], list.symbols, list.count, &o);
		built_list_deinit(&list);
	}
	return &files[kind];
}

/* A copy of exactly the size, so that a look beyond it is seen. */
static void find(const u8 *data, size_t size)
{
	struct symbol_window w = { .fd = -1, .virt = VIRT, .size = size, .data = malloc(size) };
	struct symbols *s = NULL;
	struct kallsyms k;

	memcpy(w.data, data, size);

	struct error *err = kallsyms_find(&w, &image, &k);

	if (!err)
		err = kallsyms_build(&k, &image, &s);
	if (err && error_code(err) != ERROR_FORMAT && error_code(err) != ERROR_NOT_FOUND)
		abort();
	if (!err && !symbols_agree(s, image.start, image.end, image.percpu_size))
		abort();
	error_destroy(err);
	symbols_destroy(s);
	symbol_window_deinit(&w);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct buf b = BUF_INIT;

	if (size < 2)
		return 0;
	if (data[0] >= 0xf8) {
		find(data + 1, size - 1);
		return 0;
	}
	buf_put(&b, good(data[0] % KINDS)->data, good(data[0] % KINDS)->size);
	apply_patches(&b, data + 1, size - 1);
	find(b.data, b.size);
	buf_deinit(&b);
	return 0;
}
