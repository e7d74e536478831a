// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Opens a core file: any bytes, or a good one whose headers and notes are changed. It is refused, or all that it says
 * to hold can be read. The first byte picks which.
 */
#include "../core/vmcore_rig.h"
#include "kernel/vmcore_file.h"
#include "patches.h"

enum { PAGE = 4096,
       CHANGES = 1 };

/* The first pages of a good file, made once, and how long all of it is. */
static const struct buf *good(u64 *size)
{
	static struct buf head;
	static u64 whole;
	struct vmcore_rig r;
	char path[32];

	if (!head.size) {
		if (vmcore_rig_init(&r))
			abort();

		int fd = open_bytes("", 0, path);

		if (vmcore_write(&r.core, fd))
			abort();
		whole = vmcore_size(&r.core);
		buf_put_zero(&head, whole - RIG_SIZE);
		if (pread(fd, head.data, head.size, 0) != (ssize_t)head.size)
			abort();
		close(fd);
		vmcore_rig_deinit(&r);
	}
	*size = whole;
	return &head;
}

/* Sums bytes of every page, as whoever looks at the memory might touch them. */
static void look_round(struct vmcore_file *f)
{
	const struct guest_memory *m = vmcore_view(f)->memory;
	volatile u8 sum = 0;
	u64 word;

	for (u32 i = 0; i < m->region_count; i++)
		for (u64 at = 0; at < m->regions[i].size; at += PAGE)
			sum ^= m->regions[i].hva[at] ^ m->regions[i].hva[at + PAGE - 1];

	struct view *v = vmcore_view(f);
	const struct view_range image = v->ranges[0];

	if (view_read_scalar(v, image.start, 8, &word) || view_read_scalar(v, image.start + image.size - 8, 8, &word))
		abort();
	error_destroy(view_set_root(v, image.start));
	error_destroy(view_set_direct_map(v, RIG_PAGE_OFFSET));
	error_destroy(view_read_scalar(v, RIG_PAGE_OFFSET, 8, &word));
	for (u32 i = 0; i < vmcore_cpu_count(f); i++)
		sum ^= (u8)(vmcore_regs(f, i)->rip ^ vmcore_sregs(f, i)->cr3);
	sum ^= (u8)strlen(vmcore_info(f));
	(void)sum;
}

static void open_and_look(const char *path)
{
	struct vmcore_file *f;
	struct error *err = vmcore_open(path, &f);

	if (!err) {
		look_round(f);
		vmcore_end(f);
		vmcore_close(f);
	}
	error_destroy(err);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct buf file = BUF_INIT;
	u64 whole = 0;
	char path[32];

	if (!size)
		return 0;
	if (data[0] & CHANGES) {
		const struct buf *head = good(&whole);

		buf_put(&file, head->data, head->size);
		apply_patches(&file, data + 1, size - 1);
	} else {
		buf_put(&file, data + 1, size - 1);
	}

	int fd = open_bytes(file.data, file.size, path);

	// The memory behind the headers is a hole; but where a change has cut them.
	if (whole && file.size == whole - RIG_SIZE && ftruncate(fd, (off_t)whole))
		abort();
	open_and_look(path);
	close(fd);
	buf_deinit(&file);
	return 0;
}
