/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an ELF file says to the dynamic loader: interpreter, libraries, where to look for them.
 * Depends on base and libelf.
 * Strings are copies, so the file may change afterwards; all counts are bounded by its size.
 */
#ifndef IMAGE_DYNAMIC_H
#define IMAGE_DYNAMIC_H

#include "base/error.h"
#include "base/types.h"

struct dynamic {
	bool is_elf; /* false: an object file, or another kind of file: all below is empty */
	char *interpreter; /* these are NULL where the file does not say */
	char *soname;
	char *rpath;
	char *runpath;
	bool no_default_dirs; /* DF_1_NODEFLIB */
	char **needed;
	size_t needed_count, needed_capacity;
};

/*
 * ERROR_NOT_FOUND, ERROR_OS; ERROR_INVALID: not a regular file; ERROR_UNSUPPORTED: not for x86-64;
 * ERROR_FORMAT: damaged. Errors name the file. After an error ret is empty.
 */
MUST_CHECK struct error *dynamic_read(const char *path, struct dynamic *ret);
void dynamic_deinit(struct dynamic *d);

#endif
