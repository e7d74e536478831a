// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file of a set of symbols: any bytes, a good one with changes, and bodies under a checksum that is right. It is
 * refused, or every look at it stays within it. The first byte picks which.
 */
#include "../core/kallsyms_builder.h"
#include "base/hash.h"
#include "kernel/symbol_set.h"
#include "kernel/symbols.h"
#include "patches.h"

enum { CHECKED_FROM = 16 };

/* Whatever it says: each lookup ends, and gives what can be read. */
static void look_round(const struct symbols *s)
{
	struct symbol y;
	u64 end, sum = 0;
	u32 first, count = symbols_count(s);

	for (u32 i = 0; i < count && i < 512; i++) {
		y = symbols_get(s, i);
		sum += strlen(y.name);

		u32 n = symbols_find(s, y.name, &first);

		if (first > count || n > count - first || symbols_from(s, y.name) > count)
			abort();
		for (u32 j = 0; j < n && j < 4; j++)
			sum += strlen(symbols_named(s, first + j).name);
		if (symbols_at(s, y.address, &y, &end))
			sum += strlen(y.name);
	}
	// The sum is what keeps the reads.
	if (sum == UINT64_MAX)
		abort();
}

static void open_file(const struct buf *b)
{
	char path[32];
	int fd = open_bytes(b->data, b->size, path);
	struct symbols *s = NULL;
	struct error *err = symbols_open(fd, &s);

	if (err && error_code(err) != ERROR_FORMAT)
		abort();
	if (!err)
		look_round(s);
	error_destroy(err);
	symbols_destroy(s);
	close(fd);
}

static void put_sum(struct buf *b)
{
	if (b->size < CHECKED_FROM)
		return;

	u64 sum = hash64(b->data + CHECKED_FROM, b->size - CHECKED_FROM);

	memcpy(b->data, SYMBOL_MAGIC, 8);
	memcpy(b->data + 8, &sum, sizeof(sum));
}

/* A good file, made once. */
static const struct buf *good(void)
{
	static struct buf file;
	struct symbol_builder b;
	struct symbols *s;
	char path[32];

	if (file.size)
		return &file;
	if (symbol_builder_init(&b, 20))
		abort();
	for (u32 i = 0; i < 20; i++) {
		b.a.addresses[i] = BUILT_SYMBOLS_START + (u64)i / 2 * 16;
		b.a.kinds[i] = 'T' | (i % 7 ? SYMBOL_MOVES : 0);
		b.a.names[i] = b.pool_used;
		b.pool_used += sprintf(symbol_builder_room(&b, 16), "name%u", i % 9) + 1;
	}
	if (symbol_builder_sort(&b) || symbol_builder_finish(&b, BUILT_SYMBOLS_START, BUILT_SYMBOLS_END, &s))
		abort();

	int fd = open_bytes("", 0, path);

	if (symbols_write(s, fd))
		abort();
	buf_put_zero(&file, lseek(fd, 0, SEEK_END));
	if (pread(fd, file.data, file.size, 0) != (ssize_t)file.size)
		abort();
	close(fd);
	symbols_destroy(s);
	symbol_builder_deinit(&b);
	return &file;
}

/* A header that fits the body, so that the body is what is judged. */
static void put_header(struct buf *b, const u8 *data, size_t size)
{
	struct symbol_header h = {
		.version = SYMBOL_VERSION,
		.count = size ? data[0] % 32 : 0,
		.size = sizeof(h) + size,
		.image_end = UINT64_MAX,
	};

	h.pool_size = h.size - symbol_pool_at(h.count);
	buf_put(b, &h, sizeof(h));
	buf_put(b, data, size);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct buf b = BUF_INIT;

	if (!size)
		return 0;
	if (data[0] & 1) {
		buf_put(&b, good()->data, good()->size);
		apply_patches(&b, data + 1, size - 1);
	} else if (data[0] & 2) {
		put_header(&b, data + 1, size - 1);
	} else {
		buf_put(&b, data + 1, size - 1);
	}
	if (data[0] & 6)
		put_sum(&b);
	if (b.size)
		open_file(&b);
	buf_deinit(&b);
	return 0;
}
