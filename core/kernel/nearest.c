// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/nearest.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static u32 min(u32 a, u32 b)
{
	return a < b ? a : b;
}

static bool same(char a, char b)
{
	return tolower((u8)a) == tolower((u8)b);
}

u32 nearest_distance(const char *a, const char *b)
{
	u8 rows[3][NEAREST_MAX + 1];
	u8 *before = rows[0], *last = rows[1], *row = rows[2];
	u32 a_size = strnlen(a, NEAREST_MAX), b_size = strnlen(b, NEAREST_MAX);

	for (u32 j = 0; j <= b_size; j++)
		last[j] = j;
	for (u32 i = 1; i <= a_size; i++) {
		row[0] = i;
		for (u32 j = 1; j <= b_size; j++) {
			u32 d = min(min(last[j], row[j - 1]) + 1, last[j - 1] + !same(a[i - 1], b[j - 1]));

			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
				d = min(d, before[j - 2] + 1);
			row[j] = d;
		}

		u8 *oldest = before;

		before = last;
		last = row;
		row = oldest;
	}
	return last[b_size];
}

void nearest_init(struct nearest *n, const char *wanted)
{
	n->offered = n->count = 0;
	snprintf(n->wanted, sizeof(n->wanted), "%s", wanted);
}

void nearest_offer(struct nearest *n, const char *name)
{
	u32 distance = nearest_distance(n->wanted, name);
	u32 at = n->count;

	n->offered++;
	while (at && n->distances[at - 1] > distance)
		at--;
	if (at == NEAREST_NAMES)
		return;

	u32 moved = min(n->count, NEAREST_NAMES - 1) - at;

	memmove(&n->distances[at + 1], &n->distances[at], moved * sizeof(n->distances[0]));
	memmove(n->names[at + 1], n->names[at], moved * sizeof(n->names[0]));
	n->distances[at] = distance;
	snprintf(n->names[at], sizeof(n->names[at]), "%s", name);
	n->count = min(n->count + 1, NEAREST_NAMES);
}

bool nearest_is_guess(const struct nearest *n)
{
	u32 longer = strlen(n->wanted);

	if (!n->count)
		return false;
	if (strlen(n->names[0]) > longer)
		longer = strlen(n->names[0]);
	return n->distances[0] <= (longer / 2 ?: 1);
}
