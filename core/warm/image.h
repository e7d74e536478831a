/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A saved machine as two files: `state`, a few sections of bytes under one checksum, and `memory`, sparse.
 * Depends on base and kvm/memory.h.
 * An image never changes once it is made, so any number of machines map its memory at the same time; it needs no
 * name, and has gone with its last user then. Under a name (a directory) it is there completely or not at all.
 *
 * state:	magic, format version, size, XXH3-128 of all that follows; then sections: identity, script, machine,
 *		channel, memory (its size, and a checksum of each block that is not zero: XXH3-64 of what is not).
 * memory:	the guest's memory without the hole below 4 GiB; pages of zeros are holes in the file.
 * checked:	a hint, may be missing: this boot of this host and the memory file's stat(2) when its contents were
 *		last known to be right. When it does not match (the host crashed, somebody wrote, copied or replaced
 *		the file), opening the image looks at all of its blocks.
 * touched:	a hint, may be missing: the pages that a machine touched first (touched.h).
 */
#ifndef WARM_IMAGE_H
#define WARM_IMAGE_H

#include "base/buf.h"
#include "base/error.h"
#include "kvm/memory.h"

enum image_section {
	IMAGE_IDENTITY, /* lines "name value", what has to be the same for the image to be of use */
	IMAGE_SCRIPT, /* Lua's own */
	IMAGE_MACHINE, /* machine/saved.h */
	IMAGE_CHANNEL, /* coordinator_save() */
	IMAGE_SECTIONS,
};

struct image;

/*
 * Of a machine that stands still. dir: where its memory's file, which has no name, takes its room; NULL, or a file
 * system that has no such files: in memory. parts are copied. ERROR_OS (disk full, named with the directory) and
 * ERROR_NO_MEMORY leave nothing behind.
 */
MUST_CHECK struct error *image_create(const char *dir, const struct buf parts[IMAGE_SECTIONS],
				      const struct guest_memory *memory, struct image **ret);

/*
 * ERROR_NOT_FOUND: no such directory, or one of the two files is missing. ERROR_FORMAT: damaged, and what is; made
 * by another version of the format. What is removed by somebody else meanwhile stays usable.
 */
MUST_CHECK struct error *image_open(const char *path, struct image **ret);

/* Gives it a name. ERROR_BUSY: there is something of that name already, which stays. Killed at any moment, nothing
 * is found under path; what is left then is named path.tmp-XXXXXX. */
MUST_CHECK struct error *image_publish(struct image *image, const char *path);

/* Looks at every block of its memory. ERROR_FORMAT names the first that is wrong. */
MUST_CHECK struct error *image_verify(const struct image *image);

/* NULL is allowed. */
void image_close(struct image *image);

/* Valid until it is closed. */
const void *image_section(const struct image *image, enum image_section section, size_t *size);
/* The hint `touched` as it was when the image was opened; *size 0: there was none. */
const void *image_touched(const struct image *image, size_t *size);
/* A descriptor of the directory where that hint is missing; -1: it is there, or there is no directory. */
int image_touched_directory(const struct image *image);
void image_write_touched(int directory, const void *data, size_t size);

int image_memory_fd(const struct image *image);
u64 image_memory_size(const struct image *image);
/* Bytes that it takes on disk, or of memory. */
u64 image_disk_size(const struct image *image);

#endif
