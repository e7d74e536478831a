// SPDX-License-Identifier: GPL-2.0-or-later
#include "warm/state_file.h"

#include <string.h>

#include "base/cleanup.h"
#include "warm/blocks.h"

enum {
	FORMAT_VERSION = 1,
	HEADER_SIZE = 32,
	SECTION_ALIGN = 8,
	MEMORY_SECTION = IMAGE_SECTIONS,
	MEMORY_UNIT = 2 << 20,
};

static const char magic[8] = "ktstrwm\n";

static const char *const section_names[] = {
	[IMAGE_IDENTITY] = "identity",
	[IMAGE_SCRIPT] = "script",
	[IMAGE_MACHINE] = "machine",
	[IMAGE_CHANNEL] = "channel",
	[MEMORY_SECTION] = "memory",
};

/* Of the header: the version, the size, what comes behind it. A flipped bit is in one of these, or in the sum. */
static void put_header(struct buf *out, const struct buf *body)
{
	struct hash128 hash = hash128(body->data, body->size);

	buf_put(out, magic, sizeof(magic));
	buf_put_u32(out, FORMAT_VERSION);
	buf_put_u32(out, (u32)(HEADER_SIZE + body->size));
	buf_put(out, hash.bytes, sizeof(hash.bytes));
}

static void put_section(struct buf *out, u32 kind, const void *data, size_t size)
{
	buf_put_u32(out, kind);
	buf_put_u32(out, (u32)size);
	buf_put(out, data, size);
	buf_align(out, SECTION_ALIGN);
}

static struct error *sizes_check(const struct buf parts[IMAGE_SECTIONS], const struct buf *sums)
{
	u64 total = sums->size;

	for (u32 i = 0; i < IMAGE_SECTIONS; i++)
		total += parts[i].size;
	// What is put in between is less than that.
	if (total > STATE_MAX - 4096)
		return error_create(ERROR_INVALID, "a machine's state of %llu bytes is more than an image holds",
				    (unsigned long long)total);
	return NULL;
}

struct error *state_file_build(const struct buf parts[IMAGE_SECTIONS], u64 memory_size, const struct buf *sums,
			       struct buf *out)
{
	struct error *err = sizes_check(parts, sums);

	if (err)
		return err;

	CLEANUP(buf_deinit)
	struct buf body = BUF_INIT;
	CLEANUP(buf_deinit)
	struct buf memory = BUF_INIT;

	buf_put_u64(&memory, memory_size);
	buf_put(&memory, sums->data, sums->size);
	for (u32 i = 0; i < IMAGE_SECTIONS; i++)
		put_section(&body, i, parts[i].data, parts[i].size);
	put_section(&body, MEMORY_SECTION, memory.data, memory.size);
	body.failed |= memory.failed;
	err = buf_check(&body);
	if (err)
		return err;
	put_header(out, &body);
	buf_put(out, body.data, body.size);
	return buf_check(out);
}

static struct error *parse_header(struct reader *r, struct hash128 *ret)
{
	char found[sizeof(magic)];
	struct hash128 hash;

	reader_get(r, found, sizeof(found));

	u32 version = reader_get_u32(r);
	u32 size = reader_get_u32(r);

	reader_get(r, hash.bytes, sizeof(hash.bytes));
	if (r->failed || memcmp(found, magic, sizeof(magic)) != 0)
		return error_create(ERROR_FORMAT, "it is no saved machine's state");
	if (version != FORMAT_VERSION)
		return error_create(ERROR_FORMAT, "its format is version %u, this ktstr's is %u", version,
				    FORMAT_VERSION);
	if (size != r->size)
		return error_create(ERROR_FORMAT, "it has %zu bytes, and had %u when it was made", r->size, size);

	struct hash128 sum = hash128(r->data + r->pos, r->size - r->pos);

	if (memcmp(&sum, &hash, sizeof(sum)) != 0)
		return error_create(ERROR_FORMAT, "its checksum is wrong");
	*ret = sum;
	return NULL;
}

static struct error *parse_section(struct reader *r, u32 kind, struct state_part *ret)
{
	u32 found = reader_get_u32(r);
	u32 size = reader_get_u32(r);

	ret->size = size;
	ret->data = reader_take(r, size);
	reader_take(r, ALIGN_UP((size_t)size, SECTION_ALIGN) - size);
	if (r->failed || found != kind)
		return error_create(ERROR_FORMAT, "its section '%s' is not where it should be", section_names[kind]);
	return NULL;
}

static struct error *parse_memory(struct state_part section, struct state_file *ret)
{
	struct reader r = reader_init(section.data, section.size);
	struct block_sum sum;
	u64 next = 0;

	ret->memory_size = reader_get_u64(&r);
	if (r.failed || !ret->memory_size || ret->memory_size % MEMORY_UNIT || ret->memory_size > 1ULL << 46)
		return error_create(ERROR_FORMAT, "it has no memory of a possible size");
	ret->sums.size = reader_left(&r);
	ret->sums.data = reader_take(&r, ret->sums.size);
	r = reader_init(ret->sums.data, ret->sums.size);
	while (block_sum_get(&r, &sum)) {
		if (sum.index < next || sum.index >= ret->memory_size / MEMORY_BLOCK)
			return error_create(ERROR_FORMAT, "its list of memory blocks makes no sense");
		next = (u64)sum.index + 1;
	}
	if (reader_left(&r))
		return error_create(ERROR_FORMAT, "its list of memory blocks is cut short");
	return NULL;
}

struct error *state_file_parse(const void *data, size_t size, struct state_file *ret)
{
	struct reader r = reader_init(data, size);
	struct state_part memory;

	*ret = (struct state_file){ 0 };

	struct error *err = parse_header(&r, &ret->hash);

	for (u32 i = 0; !err && i < IMAGE_SECTIONS; i++)
		err = parse_section(&r, i, &ret->parts[i]);
	if (!err)
		err = parse_section(&r, MEMORY_SECTION, &memory);
	if (!err && reader_left(&r))
		err = error_create(ERROR_FORMAT, "it goes on behind its last section");
	if (!err)
		err = parse_memory(memory, ret);
	return err;
}
