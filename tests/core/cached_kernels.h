/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vmlinux of each kernel in ktstr's cache, for tests that want real ones.
 * Depends on libc.
 * There may be none: a test then skips, and says so.
 */
#ifndef TESTS_CORE_CACHED_KERNELS_H
#define TESTS_CORE_CACHED_KERNELS_H

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

/* To be given back with globfree(); gl_pathc 0: there is none. */
static inline glob_t find_cached_kernels(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char pattern[512];
	glob_t found;

	if (cache)
		snprintf(pattern, sizeof(pattern), "%s/ktstr/kernels/*/vmlinux", cache);
	else
		snprintf(pattern, sizeof(pattern), "%s/.cache/ktstr/kernels/*/vmlinux", home ? home : "");
	if (glob(pattern, 0, NULL, &found))
		found = (glob_t){ 0 };
	return found;
}

#endif
