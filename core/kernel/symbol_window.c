// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/symbol_window.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "image/vmlinux.h"

enum { PIECE = 512 << 10,
       PAGE_SIZE = 4096 };

/* Nobody is going to write to it: what core/image takes for that, too. */
static bool is_immutable(int fd, u64 end)
{
	const int seals = F_SEAL_WRITE | F_SEAL_SHRINK;
	int found = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (u64)st.st_size < end)
		return false;
	return !(st.st_mode & 0222) || (found >= 0 && (found & seals) == seals);
}

static struct error *map(struct symbol_window *w)
{
	u64 start = ALIGN_DOWN(w->file_offset, (u64)PAGE_SIZE);

	w->mapping_size = w->file_offset - start + w->size;

	void *p = mmap(NULL, w->mapping_size, PROT_READ, MAP_PRIVATE, w->fd, (off_t)start);

	if (p == MAP_FAILED)
		return error_create_errno("cannot map it");
	w->mapping = p;
	w->data = (u8 *)p + (w->file_offset - start);
	w->loaded = 0;
	return NULL;
}

// Memory that is not read into costs no pages: as large as the segment is right, however little is read.
struct error *symbol_window_init(struct symbol_window *w, int fd, u64 file_offset, u64 virt, size_t size)
{
	*w = (struct symbol_window){
		.fd = fd,
		.file_offset = file_offset,
		.virt = virt,
		.size = size,
		.loaded = size,
	};
	if (size && is_immutable(fd, file_offset + size))
		return map(w);
	w->data = malloc(size ? size : 1);
	return w->data ? NULL : error_no_memory();
}

void symbol_window_deinit(struct symbol_window *w)
{
	if (w->mapping)
		munmap(w->mapping, w->mapping_size);
	else
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
