/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an image is to those who make, open and publish it.
 * Depends on image.h, state_file.h.
 * Nothing of it changes once it is made.
 */
#ifndef WARM_INTERNAL_H
#define WARM_INTERNAL_H

#include "base/buf.h"
#include "warm/image.h"
#include "warm/state_file.h"

#define IMAGE_STATE "state"
#define IMAGE_MEMORY "memory"
#define IMAGE_CHECKED "checked"

struct image {
	struct buf bytes; /* all of the file `state`; parsed points into them */
	struct state_file parsed;
	int memory_fd;
};

/*
 * A line for the file `checked`: this boot of the host, the memory file, and the state that it belongs to. False:
 * this host does not tell, and the file is better left out.
 */
enum { CHECKED_MAX = 256 };
bool checked_line(const struct image *image, int memory_fd, char ret[CHECKED_MAX]);
/* Whether the directory's is that line. */
bool checked_is(int directory, const char *line);
/* A hint: when it cannot be written, it is missing. Whatever has that name is replaced, not followed. */
void checked_write(int directory, const char *line);

#endif
