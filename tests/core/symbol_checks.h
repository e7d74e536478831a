/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is true of every set of symbols, whatever it was made of.
 * Depends on kernel/symbols.h. It says on stderr what is not.
 * For tests and fuzz targets: a set that was accepted has to agree with itself.
 */
#ifndef TESTS_SYMBOL_CHECKS_H
#define TESTS_SYMBOL_CHECKS_H

#include <stdio.h>
#include <string.h>

#include "kernel/symbols.h"

#define SYMBOL_CHECK(what)                                                         \
	do {                                                                       \
		if (!(what)) {                                                     \
			fprintf(stderr, "symbol %u (%s at %llx): %s\n", i, y.name, \
				(unsigned long long)y.address, #what);             \
			return false;                                              \
		}                                                                  \
	} while (0)

/* It is among those of its name, and they are in order. */
static inline bool symbol_is_found(const struct symbols *s, u32 i, struct symbol y)
{
	u32 first, n = symbols_find(s, y.name, &first);
	bool found = false;

	SYMBOL_CHECK(n > 0 && first + n <= symbols_count(s));
	SYMBOL_CHECK(symbols_from(s, y.name) == first);
	// Thousands of one name would take long.
	for (u32 place = first; place < first + n && place < first + 64; place++) {
		struct symbol other = symbols_named(s, place);

		SYMBOL_CHECK(!strcmp(other.name, y.name));
		SYMBOL_CHECK(place == first || symbols_named(s, place - 1).address <= other.address);
		found |= other.address == y.address && other.kind == y.kind;
	}
	SYMBOL_CHECK(found || n > 64);
	SYMBOL_CHECK(!first || strcmp(symbols_named(s, first - 1).name, y.name) < 0);
	SYMBOL_CHECK(first + n == symbols_count(s) || strcmp(symbols_named(s, first + n).name, y.name) > 0);
	return true;
}

/* Its address leads to the first symbol there, and to where the next one is. */
static inline bool symbol_is_at(const struct symbols *s, u32 i, struct symbol y, u64 image_end)
{
	struct symbol at = y;
	u64 end;

	if (y.address == image_end) {
		SYMBOL_CHECK(!symbols_at(s, y.address, &at, &end));
		return true;
	}
	SYMBOL_CHECK(symbols_at(s, y.address, &at, &end));
	SYMBOL_CHECK(at.address == y.address && at.moves);
	SYMBOL_CHECK(end > y.address && end <= image_end);

	struct symbol last;
	u64 last_end;

	SYMBOL_CHECK(symbols_at(s, end - 1, &last, &last_end));
	SYMBOL_CHECK(last.address == at.address && last.name == at.name && last_end == end);
	return true;
}

static inline bool symbols_agree(const struct symbols *s, u64 image_start, u64 image_end, u64 percpu_size)
{
	for (u32 i = 0; i < symbols_count(s); i++) {
		struct symbol y = symbols_get(s, i);

		if (y.moves)
			SYMBOL_CHECK(y.address >= image_start && y.address <= image_end);
		else
			SYMBOL_CHECK(y.address <= percpu_size);
		SYMBOL_CHECK(!i || symbols_get(s, i - 1).address <= y.address);
		SYMBOL_CHECK(*y.name && (y.kind == '?' || ((y.kind | 0x20) >= 'a' && (y.kind | 0x20) <= 'z')));
		for (const char *p = y.name; *p; p++)
			SYMBOL_CHECK(*p > ' ' && *p <= '~');
		if (!symbol_is_found(s, i, y) || (y.moves && !symbol_is_at(s, i, y, image_end)))
			return false;
	}
	return true;
}

#endif
