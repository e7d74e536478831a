// SPDX-License-Identifier: GPL-2.0-or-later
#include "warm/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "warm/blocks.h"

struct error *pagemap_open(struct pagemap *p, const void *base, u64 size)
{
	*p = PAGEMAP_INIT;
	p->base = base;
	p->pages = size / MEMORY_PAGE;
	p->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (p->fd < 0)
		return error_create_errno("cannot open /proc/self/pagemap");
	p->entries = malloc(PAGEMAP_PIECE * sizeof(*p->entries));
	if (!p->entries) {
		pagemap_close(p);
		return error_no_memory();
	}
	return NULL;
}

void pagemap_close(struct pagemap *p)
{
	if (p->fd >= 0)
		close(p->fd);
	free(p->entries);
	*p = PAGEMAP_INIT;
}

static struct error *read_piece(struct pagemap *p, u64 first)
{
	u64 left = p->pages - first;
	size_t want = (left < PAGEMAP_PIECE ? left : PAGEMAP_PIECE) * sizeof(u64);
	u64 at = ((uintptr_t)p->base / MEMORY_PAGE + first) * sizeof(u64);
	ssize_t n;

	do
		n = pread(p->fd, p->entries, want, (off_t)at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_create_errno("cannot read /proc/self/pagemap");
	if (n < (ssize_t)sizeof(u64))
		return error_create(ERROR_OS, "/proc/self/pagemap ends before its time");
	p->first = first;
	p->count = (u64)n / sizeof(u64);
	return NULL;
}

struct error *pagemap_get(struct pagemap *p, u64 page, u64 *ret)
{
	if (page - p->first >= p->count) {
		struct error *err = read_piece(p, page);

		if (err)
			return err;
	}
	*ret = p->entries[page - p->first];
	return NULL;
}
