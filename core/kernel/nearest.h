/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names that somebody probably meant: the nearest of those offered, by edit distance.
 * Depends on base.
 * Takes bounded time a name; what is beyond the first NEAREST_MAX characters of one is not looked at.
 */
#ifndef KERNEL_NEAREST_H
#define KERNEL_NEAREST_H

#include "base/types.h"

enum {
	NEAREST_MAX = 63, /* characters of a name */
	NEAREST_NAMES = 20,
};

struct nearest {
	char wanted[NEAREST_MAX + 1];
	u32 offered;
	/* The best so far, nearest first; of equally near ones those that were offered first. */
	u32 count;
	u32 distances[NEAREST_NAMES];
	char names[NEAREST_NAMES][NEAREST_MAX + 1];
};

/* Insertions, deletions, replacements and swaps of neighbours from one to the other, case ignored. */
u32 nearest_distance(const char *a, const char *b);

void nearest_init(struct nearest *n, const char *wanted);
void nearest_offer(struct nearest *n, const char *name);
/* Is the first near enough to be what was meant? */
bool nearest_is_guess(const struct nearest *n);

#endif
