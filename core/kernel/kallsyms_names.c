// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "kernel/kallsyms.h"
#include "kernel/symbol_set.h"

enum { SHORT_TOKEN = 15,
       AHEAD = 8 }; /* names */

/* Tokens of one load and store each: nearly all are short, and copied whole, whatever their length. */
struct token {
	char text[SHORT_TOKEN];
	u8 size; /* SHORT_TOKEN + 1: longer than text, look for it in the table */
};

struct decoder {
	const struct kallsyms *k;
	struct symbol_builder builder;
	u32 *positions; /* of each name in names */
	struct token tokens[KALLSYMS_TOKENS];
};

static const char *long_token(const struct kallsyms *k, u32 code)
{
	u16 at;

	memcpy(&at, k->index + code * sizeof(at), sizeof(at));
	return k->tokens + at;
}

static void load_tokens(struct decoder *d)
{
	for (u32 i = 0; i < KALLSYMS_TOKENS; i++) {
		const char *text = long_token(d->k, i);
		size_t size = strlen(text);

		d->tokens[i].size = size <= SHORT_TOKEN ? size : SHORT_TOKEN + 1;
		memcpy(d->tokens[i].text, text, size <= SHORT_TOKEN ? size : 0);
	}
}

/* The codes as text, into room for KALLSYMS_MAX_NAME and a token. Its length; above KALLSYMS_MAX_NAME: too long. */
static size_t expand(const struct decoder *d, const u8 *codes, u32 count, char *out)
{
	size_t size = 0;

	for (u32 i = 0; i < count && size <= KALLSYMS_MAX_NAME; i++) {
		const struct token *t = &d->tokens[codes[i]];

		if (t->size <= SHORT_TOKEN) {
			memcpy(out + size, t, sizeof(*t));
			size += t->size;
			continue;
		}

		for (const char *c = long_token(d->k, codes[i]); *c && size <= KALLSYMS_MAX_NAME; c++)
			out[size++] = *c;
	}
	return size;
}

static bool is_kind(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '?';
}

/*
 * Puts a symbol's letter and name at the end of the pool, nothing when the name is the last one's again. Returns how it
 * compares with that one, through *order.
 */
static struct error *put_name(struct decoder *d, u32 symbol, u32 *last, int *order)
{
	const struct kallsyms *k = d->k;
	struct symbol_builder *b = &d->builder;
	char *text = symbol_builder_room(b, KALLSYMS_MAX_NAME + sizeof(struct token));
	const u8 *codes = NULL;
	u32 count = kallsyms_codes(k->names + d->positions[symbol], k->names + k->names_size, &codes);

	if (!text)
		return error_no_memory();

	size_t size = expand(d, codes, count, text);

	if (size < 2 || size > KALLSYMS_MAX_NAME || !is_kind(text[0]))
		return error_create(ERROR_FORMAT, "its kallsyms are damaged (the name of symbol %u)", symbol);
	b->a.kinds[symbol] |= text[0];
	text[size] = '\0';
	*order = b->pool_used ? strcmp(text + 1, b->a.pool + *last) : 1;
	if (*order) {
		*last = b->pool_used + 1;
		b->pool_used += size + 1;
	}
	b->a.names[symbol] = *last;
	return NULL;
}

/* In the order of the places: by name when that is what they are, which is said by *sorted. */
static struct error *put_names(struct decoder *d, bool *sorted)
{
	u32 last = 0;

	*sorted = true;
	for (u32 place = 0; place < d->k->count; place++) {
		u32 symbol = d->builder.a.places[place];
		int order = 0;

		if (place + AHEAD < d->k->count)
			__builtin_prefetch(d->k->names + d->positions[d->builder.a.places[place + AHEAD]]);

		struct error *err = put_name(d, symbol, &last, &order);

		if (err)
			return err;
		*sorted &= order > 0 || (!order && d->builder.a.places[place - 1] < symbol);
	}
	return NULL;
}

/* The kernel's own index by name, if each symbol is in it; else the symbols as they come. */
static struct error *take_places(struct decoder *d)
{
	u32 count = d->k->count;
	u8 CLEANUP_FREE *seen = calloc(1, count);
	const u8 *seq = d->k->seqs;
	u32 i = 0;

	if (!seen)
		return error_no_memory();
	for (; seq && i < count; i++, seq += 3) {
		u32 symbol = (u32)seq[0] << 16 | (u32)seq[1] << 8 | seq[2];

		if (symbol >= count || seen[symbol])
			break;
		seen[symbol] = 1;
		d->builder.a.places[i] = symbol;
	}
	if (i < count)
		for (u32 j = 0; j < count; j++)
			d->builder.a.places[j] = j;
	return NULL;
}

static void take_addresses(struct decoder *d)
{
	const struct kallsyms *k = d->k;
	struct symbol_arrays *a = &d->builder.a;
	const u8 *p = k->names;

	for (u32 i = 0; i < k->count; i++) {
		const u8 *codes = p;
		bool moves;

		a->addresses[i] = kallsyms_address(k, i, &moves);
		a->kinds[i] = moves ? SYMBOL_MOVES : 0;
		d->positions[i] = p - k->names;

		u32 n = kallsyms_codes(p, k->names + k->names_size, &codes);

		p = codes + n;
	}
}

static struct error *build(struct decoder *d, const struct kallsyms_image *image, struct symbols **ret)
{
	struct error *err = take_places(d);
	bool sorted = false;

	if (err)
		return err;
	take_addresses(d);
	load_tokens(d);
	err = put_names(d, &sorted);
	// A compiler's suffixes that the kernel leaves out when it sorts (LTO): its order is not ours.
	if (!err && !sorted)
		err = symbol_builder_sort(&d->builder);
	return err ? err : symbol_builder_finish(&d->builder, image->start, image->end, ret);
}

struct error *kallsyms_build(const struct kallsyms *k, const struct kallsyms_image *image, struct symbols **ret)
{
	struct decoder CLEANUP_FREE *d = calloc(1, sizeof(*d));
	u32 CLEANUP_FREE *positions = malloc((size_t)k->count * sizeof(*positions));

	if (!d || !positions)
		return error_no_memory();
	d->k = k;
	d->positions = positions;

	struct error *err = symbol_builder_init(&d->builder, k->count);

	if (!err)
		err = build(d, image, ret);
	symbol_builder_deinit(&d->builder);
	return err;
}
