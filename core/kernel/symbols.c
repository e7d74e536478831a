// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/symbols.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernel/symbol_set.h"

void symbols_destroy(struct symbols *s)
{
	if (!s)
		return;
	if (s->mapped)
		munmap(s->header, s->header->size);
	else
		free(s->header);
	free(s);
}

u32 symbols_count(const struct symbols *s)
{
	return s->header->count;
}

struct symbol symbols_get(const struct symbols *s, u32 index)
{
	return (struct symbol){
		.address = s->a.addresses[index],
		.name = s->a.pool + s->a.names[index],
		.kind = (char)(s->a.kinds[index] & ~SYMBOL_MOVES),
		.moves = s->a.kinds[index] & SYMBOL_MOVES,
	};
}

static const char *name_at(const struct symbols *s, u32 place)
{
	return s->a.pool + s->a.names[s->a.places[place]];
}

/* The first place of [low, high) whose name is at or, when behind, after this one; high when there is none. */
static u32 find_place(const struct symbols *s, const char *name, bool behind, u32 low, u32 high)
{
	while (low < high) {
		u32 middle = low + (high - low) / 2;
		int order = strcmp(name_at(s, middle), name);

		if (order < 0 || (behind && !order))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

// Most names are one symbol's: where they end is looked for close by, then twice as far each time.
u32 symbols_find(const struct symbols *s, const char *name, u32 *first)
{
	u32 count = s->header->count, low = find_place(s, name, false, 0, count), high = low;

	*first = low;
	for (u32 step = 1; high < count && !strcmp(name_at(s, high), name); step *= 2) {
		low = high + 1;
		high = step < count - high ? high + step : count;
	}
	return find_place(s, name, true, low, high) - *first;
}

struct symbol symbols_named(const struct symbols *s, u32 place)
{
	return symbols_get(s, s->a.places[place]);
}

u32 symbols_from(const struct symbols *s, const char *prefix)
{
	return find_place(s, prefix, false, 0, s->header->count);
}

/* The first index whose address is above. */
static u32 find_above(const struct symbols *s, u64 address)
{
	u32 low = 0, high = s->header->count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (s->a.addresses[middle] <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool moves(const struct symbols *s, u32 index)
{
	return s->a.kinds[index] & SYMBOL_MOVES;
}

// Of several at one address the first is given, as the kernel itself does it in a backtrace.
bool symbols_at(const struct symbols *s, u64 address, struct symbol *ret, u64 *end)
{
	u32 above = find_above(s, address), at = above;

	if (address < s->header->image_start || address >= s->header->image_end)
		return false;
	while (at && !moves(s, at - 1))
		at--;
	if (!at--)
		return false;
	for (u32 i = at; i-- > 0 && s->a.addresses[i] == s->a.addresses[at];)
		if (moves(s, i))
			at = i;
	*ret = symbols_get(s, at);
	while (above < s->header->count && !moves(s, above))
		above++;
	*end = above < s->header->count ? s->a.addresses[above] : s->header->image_end;
	return true;
}
