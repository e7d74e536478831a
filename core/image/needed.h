/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a program needs beside itself: its ELF interpreter and shared libraries, transitively.
 * Depends on base and libelf. Reads files only; nothing of the program is run.
 * Finds libraries as glibc's loader does: RPATH and RUNPATH ($ORIGIN, $LIB, $PLATFORM), then
 * /etc/ld.so.cache, then the default directories; LD_LIBRARY_PATH is not looked at.
 */
#ifndef IMAGE_NEEDED_H
#define IMAGE_NEEDED_H

#include "base/error.h"
#include "base/types.h"

/* Absolute host paths, in the order found, each once. */
struct needed {
	char **paths;
	size_t count, capacity;
};

/*
 * A static program, a script or any other file that is not ELF needs nothing: an empty list.
 * ERROR_NOT_FOUND: the file, its interpreter or a library is missing (the message says whose).
 * ERROR_UNSUPPORTED: an ELF file of another machine. ERROR_FORMAT: a damaged one.
 */
MUST_CHECK struct error *needed_find(const char *path, struct needed *ret);
void needed_deinit(struct needed *n);

#endif
