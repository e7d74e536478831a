/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernels that are in ktstr's cache, for tests of what is in them.
 * Depends on cmocka; included after it.
 * Where there is none a test is skipped, and says so.
 */
#ifndef TESTS_CACHED_KERNELS_H
#define TESTS_CACHED_KERNELS_H

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

/* Every kernel's vmlinux; globfree() is the caller's. */
static inline glob_t cached_kernels_find(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char pattern[512];
	glob_t found = { 0 };

	snprintf(pattern, sizeof(pattern), "%s%s/ktstr/kernels/*/vmlinux", cache ? cache : home ? home :
												  "",
		 cache ? "" : "/.cache");
	if (glob(pattern, 0, NULL, &found) || !found.gl_pathc) {
		globfree(&found);
		print_message("skipped: no kernel in the cache\n");
		skip();
	}
	return found;
}

#endif
