/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an image is to those who make, open and publish it.
 * Depends on image.h, state_file.h.
 * Nothing of it changes once it is made but its hints.
 */
#ifndef WARM_INTERNAL_H
#define WARM_INTERNAL_H

#include "base/buf.h"
#include "warm/image.h"
#include "warm/state_file.h"

#define IMAGE_STATE "state"
#define IMAGE_MEMORY "memory"
#define IMAGE_CHECKED "checked"
#define IMAGE_TOUCHED "touched"

struct image {
	struct buf bytes; /* all of the file `state`; parsed points into them */
	struct state_file parsed;
	int memory_fd;
	int directory; /* of one that was opened by its name; -1: none */
	struct buf touched; /* the file of that name; empty: none */
};

/*
 * Hints are small files that may be missing. Reading returns the length; 0 when it is no regular file, cannot be read,
 * or has size bytes or more. Writing replaces whatever has the name, and follows no link; what cannot be written is
 * missing.
 */
size_t hint_read(int directory, const char *name, void *out, size_t size);
void hint_write(int directory, const char *name, const void *data, size_t size);

/*
 * A line for the file `checked`: this boot of the host, the memory file, and the state that it belongs to. False:
 * this host does not tell, and the file is better left out.
 */
enum { CHECKED_MAX = 256 };
bool checked_line(const struct image *image, int memory_fd, char ret[CHECKED_MAX]);
/* Whether the directory's is that line. */
bool checked_is(int directory, const char *line);
void checked_write(int directory, const char *line);

#endif
