// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Looks for the libraries of a program, and for one in a cache. The first byte picks whether the
 * input is the program, changes to a good one, or the loader's cache.
 */
#include <unistd.h>

#include "../core/dynamic_builder.h"
#include "image/ldcache.h"
#include "image/needed.h"
#include "patches.h"

enum { PROGRAM,
       CHANGES,
       CACHE };

static void find(const struct buf *file)
{
	struct needed needed;
	char path[32];
	int fd = open_bytes(file->data, file->size, path);
	struct error *err = needed_find(path, &needed);

	if (!err) {
		for (size_t i = 0; i < needed.count; i++)
			if (!needed.paths[i][0])
				abort();
		needed_deinit(&needed);
	}
	error_destroy(err);
	close(fd);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct buf file = BUF_INIT;

	if (!size)
		return 0;
	switch (data[0] & 3) {
	case PROGRAM:
		buf_put(&file, data + 1, size - 1);
		find(&file);
		break;
	case CACHE:
		if (ldcache_find(data + 1, size - 1, "libc.so.6") && size < 48)
			abort();
		break;
	default:
		build_dynamic(&file, &(struct dynamic_options){
					     .interpreter = "/lib64/ld-linux-x86-64.so.2",
					     .soname = "me",
					     .runpath = "$ORIGIN/${LIB}:/usr/lib",
					     .needed = { "libc.so.6", "libm.so.6" },
				     });
		apply_patches(&file, data + 1, size - 1);
		find(&file);
		break;
	}
	buf_deinit(&file);
	return 0;
}
