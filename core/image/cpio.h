/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cpio archive (newc, what Linux unpacks as an initramfs) built in memory.
 * Depends on base. The same calls give the same bytes: times are 0, inode numbers count from 1.
 * Paths are guest paths ("/bin/sh" or "bin/sh"); directories above them are added by themselves.
 */
#ifndef IMAGE_CPIO_H
#define IMAGE_CPIO_H

#include "base/buf.h"
#include "base/error.h"
#include "base/types.h"

struct cpio_entry;

struct cpio {
	struct buf archive; /* the bytes so far; complete after cpio_finish() */
	struct cpio_entry *entries; /* what is in it: a hash table by path */
	size_t entry_count, entry_capacity;
	u32 next_ino;
	bool finished;
};

void cpio_init(struct cpio *c);
void cpio_deinit(struct cpio *c);

/*
 * Errors of all that add: ERROR_INVALID for a path that is empty, too long (4095 bytes at most),
 * has "." or ".." in it or is "/TRAILER!!!" (which ends the format), for one that is there already
 * (a directory may be added again: the mode of the first time stays) or below something that is no
 * directory, and when the archive is finished. mode: permission bits, 07777 at most. After an error
 * nothing was added, except ERROR_NO_MEMORY: that spoils the archive.
 */
/* size: less than 4 GiB. */
MUST_CHECK struct error *cpio_add_file(struct cpio *c, const char *path, u32 mode, const void *data,
				       size_t size);
/*
 * host: a regular file on the host; mode NULL: as on the host. Errors name it: ERROR_NOT_FOUND,
 * ERROR_INVALID (a directory, a device, 4 GiB or more), ERROR_OS (not readable, or it changed while
 * it was read).
 */
MUST_CHECK struct error *cpio_add_host_file(struct cpio *c, const char *path, const u32 *mode,
					    const char *host);
MUST_CHECK struct error *cpio_add_dir(struct cpio *c, const char *path, u32 mode);
MUST_CHECK struct error *cpio_add_symlink(struct cpio *c, const char *path, const char *target);
MUST_CHECK struct error *cpio_add_char_device(struct cpio *c, const char *path, u32 mode, u32 major,
					      u32 minor);

/* Adds the trailer and pads; the archive is c->archive. Nothing can be added afterwards. */
MUST_CHECK struct error *cpio_finish(struct cpio *c);

#endif
