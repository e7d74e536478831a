// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file `state` of a saved machine and the note of touched pages: any bytes, and bodies under a header that is
 * right for them. They are refused, or every section lies within them, and is what they are built of again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "warm/blocks.h"
#include "warm/state_file.h"
#include "warm/touched.h"

#define MUST(what)                                      \
	do {                                            \
		if (!(what)) {                          \
			fprintf(stderr, "%s\n", #what); \
			abort();                        \
		}                                       \
	} while (0)

enum { HEADER = 32 };

static void must_be_within(struct state_part part, const struct buf *all)
{
	const u8 *start = part.data;

	MUST(start >= all->data && start + part.size <= all->data + all->size);
}

/* What was accepted says the same when it is written down again. */
static void rebuild(const struct state_file *parsed, const struct buf *all)
{
	struct buf parts[IMAGE_SECTIONS], out = BUF_INIT;
	struct buf sums = { .data = (u8 *)parsed->sums.data, .size = parsed->sums.size };
	struct state_file again;

	for (u32 i = 0; i < IMAGE_SECTIONS; i++) {
		must_be_within(parsed->parts[i], all);
		parts[i] = (struct buf){ .data = (u8 *)parsed->parts[i].data, .size = parsed->parts[i].size };
	}
	must_be_within(parsed->sums, all);
	MUST(!state_file_build(parts, parsed->memory_size, &sums, &out));
	MUST(!state_file_parse(out.data, out.size, &again));
	MUST(out.size == all->size);
	MUST(again.memory_size == parsed->memory_size && again.sums.size == parsed->sums.size);
	for (u32 i = 0; i < IMAGE_SECTIONS; i++)
		MUST(again.parts[i].size == parsed->parts[i].size &&
		     !memcmp(again.parts[i].data, parsed->parts[i].data, parsed->parts[i].size));
	buf_deinit(&out);
}

static void parse(const struct buf *all)
{
	struct state_file parsed;
	struct error *err = state_file_parse(all->data, all->size, &parsed);

	if (err)
		MUST(error_code(err) == ERROR_FORMAT);
	else
		rebuild(&parsed, all);
	error_destroy(err);
}

/* A header that says what is true of the bytes, so that what is behind the checksum is reached. */
static struct buf with_header(const u8 *data, size_t size)
{
	struct hash128 hash = hash128(data, size);
	struct buf b = BUF_INIT;

	buf_put(&b, "ktstrwm\n", 8);
	buf_put_u32(&b, 1);
	buf_put_u32(&b, (u32)(HEADER + size));
	buf_put(&b, hash.bytes, sizeof(hash.bytes));
	buf_put(&b, data, size);
	return b;
}

/* The sections themselves: sizes from the input, so that the checksums' list is reached often. */
static struct buf with_sections(const u8 *data, size_t size)
{
	struct buf b = BUF_INIT;

	for (u32 i = 0; i < IMAGE_SECTIONS; i++) {
		size_t n = size ? data[0] % 4 : 0;

		n = n < size ? n : size;
		buf_put_u32(&b, i);
		buf_put_u32(&b, (u32)n);
		buf_put(&b, data, n);
		buf_align(&b, 8);
		data += n;
		size -= n;
	}
	buf_put_u32(&b, IMAGE_SECTIONS);
	buf_put_u32(&b, (u32)size);
	buf_put(&b, data, size);
	buf_align(&b, 8);

	struct buf all = with_header(b.data, b.size);

	buf_deinit(&b);
	return all;
}

static void fetch(const u8 *data, size_t size)
{
	struct guest_memory m;
	struct buf b = BUF_INIT;

	MUST(!guest_memory_init(&m, 2 << 20, 2 << 20, 1ULL << 32));
	buf_put(&b, "ktstrtp\n", 8);
	buf_put_u64(&b, m.size);
	buf_put(&b, data, size);
	MUST(touched_fetch(&m, b.data, b.size) <= m.size);
	MUST(touched_fetch(&m, data, size) <= m.size);
	buf_deinit(&b);
	guest_memory_deinit(&m);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct buf raw = BUF_INIT;

	buf_put(&raw, data, size);

	struct buf headed = with_header(data, size), sectioned = with_sections(data, size);

	parse(&raw);
	parse(&headed);
	parse(&sectioned);
	fetch(data, size);
	buf_deinit(&raw);
	buf_deinit(&headed);
	buf_deinit(&sectioned);
	return 0;
}
