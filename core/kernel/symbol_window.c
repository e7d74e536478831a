// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/symbol_window.h"

#include <stdlib.h>

#include "image/vmlinux.h"

enum { PIECE = 512 << 10 };

// Memory that is not read into costs no pages: as large as the segment is right, however little is read.
struct error *symbol_window_init(struct symbol_window *w, int fd, u64 file_offset, u64 virt, size_t size)
{
	*w = (struct symbol_window){
		.fd = fd,
		.file_offset = file_offset,
		.virt = virt,
		.size = size,
		.loaded = size,
		.data = malloc(size ? size : 1),
	};
	return w->data ? NULL : error_no_memory();
}

void symbol_window_deinit(struct symbol_window *w)
{
	free(w->data);
	*w = (struct symbol_window){ .fd = -1 };
}

struct error *symbol_window_load(struct symbol_window *w, size_t from)
{
	if (from >= w->loaded)
		return NULL;
	from = ALIGN_DOWN(from, (size_t)PIECE);

	struct error *err = vmlinux_read(w->fd, w->data + from, w->loaded - from, w->file_offset + from);

	if (!err)
		w->loaded = from;
	return err;
}
