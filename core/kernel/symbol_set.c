// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/symbol_set.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { USUAL_NAME = 32 }; /* bytes; a little more than the mean */

struct symbol_arrays symbol_arrays_at(u8 *block, u32 count)
{
	struct symbol_arrays a = { .addresses = (u64 *)(block + sizeof(struct symbol_header)) };

	a.names = (u32 *)(a.addresses + count);
	a.places = a.names + count;
	a.kinds = (u8 *)(a.places + count);
	a.pool = (char *)(a.kinds + count);
	return a;
}

static bool resize(struct symbol_builder *b, size_t capacity)
{
	u8 *block = realloc(b->block, capacity);

	if (!block)
		return false;
	b->block = block;
	b->capacity = capacity;
	b->a = symbol_arrays_at(block, b->count);
	return true;
}

struct error *symbol_builder_init(struct symbol_builder *b, u32 count)
{
	*b = (struct symbol_builder){ .count = count };
	if (count > SYMBOL_MAX_COUNT)
		return error_create(ERROR_FORMAT, "it has %u symbols, more than any kernel", count);
	return resize(b, symbol_pool_at(count) + (size_t)count * USUAL_NAME) ? NULL : error_no_memory();
}

void symbol_builder_deinit(struct symbol_builder *b)
{
	free(b->block);
	*b = (struct symbol_builder){ 0 };
}

char *symbol_builder_room(struct symbol_builder *b, size_t n)
{
	size_t used = symbol_pool_at(b->count) + b->pool_used;

	if (n > b->capacity - used && !resize(b, used + used / 2 + n))
		return NULL;
	// A symbol's name is a u32.
	return b->pool_used + n > UINT32_MAX ? NULL : b->a.pool + b->pool_used;
}

/* A name's first bytes as a number, so that most comparisons need no look at the name. */
struct sort_key {
	u64 first;
	u32 index;
};

static u64 first_bytes(const char *name)
{
	u64 word = 0;

	memcpy(&word, name, strnlen(name, sizeof(word)));
	return be64toh(word);
}

static int compare_keys(const void *a, const void *b, void *arg)
{
	const struct sort_key *x = a, *y = b;
	const struct symbol_arrays *arrays = arg;

	if (x->first != y->first)
		return x->first < y->first ? -1 : 1;

	int order = strcmp(arrays->pool + arrays->names[x->index], arrays->pool + arrays->names[y->index]);

	return order ? order : (x->index > y->index) - (x->index < y->index);
}

struct error *symbol_builder_sort(struct symbol_builder *b)
{
	struct sort_key CLEANUP_FREE *keys = malloc((b->count ? b->count : 1) * sizeof(*keys));

	if (!keys)
		return error_no_memory();
	for (u32 i = 0; i < b->count; i++)
		keys[i] = (struct sort_key){ .first = first_bytes(b->a.pool + b->a.names[i]), .index = i };
	qsort_r(keys, b->count, sizeof(*keys), compare_keys, &b->a);
	for (u32 i = 0; i < b->count; i++)
		b->a.places[i] = keys[i].index;
	return NULL;
}

struct error *symbol_builder_finish(struct symbol_builder *b, u64 image_start, u64 image_end, struct symbols **ret)
{
	struct symbols *s = calloc(1, sizeof(*s));
	size_t size = symbol_pool_at(b->count) + b->pool_used;

	if (!s || !resize(b, size)) {
		free(s);
		return error_no_memory();
	}
	s->header = (struct symbol_header *)b->block;
	s->a = b->a;
	*s->header = (struct symbol_header){
		.version = SYMBOL_VERSION,
		.count = b->count,
		.size = size,
		.pool_size = b->pool_used,
		.image_start = image_start,
		.image_end = image_end,
	};
	memcpy(s->header->magic, SYMBOL_MAGIC, sizeof(s->header->magic));
	b->block = NULL;
	*ret = s;
	return NULL;
}
