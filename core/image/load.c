// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/kernel_image.h"

enum {
	PAGE_SIZE = 4096,
	/* Pages without relocations between two with some that are faulted in along with them. */
	POPULATE_GAP = 1,
};

/* KASLR on the host: what the decompressor in a bzImage would do in the guest. */

static struct error *too_little_memory(const struct kernel_info *info,
				       const struct kernel_room *room, u64 lowest)
{
	const u64 mib = 1 << 20;

	return error_with_hint(
		error_create(ERROR_INVALID,
			     "too little memory: the kernel takes %llu MiB from %llu MiB on, "
			     "the initramfs %llu MiB; there are %llu MiB",
			     (unsigned long long)((info->span + mib - 1) / mib),
			     (unsigned long long)(lowest / mib),
			     (unsigned long long)((room->initrd_size + mib - 1) / mib),
			     (unsigned long long)(room->low_ram / mib)),
		"give the machine more with memory=");
}

/* Slot number below count from 32 bits of entropy. */
static u64 choose(u32 entropy, u64 count)
{
	return (entropy * count) >> 32;
}

struct error *kernel_image_place(const struct kernel_image *image, const struct kernel_room *room,
				 const u64 *entropy, struct kernel_place *ret)
{
	const struct kernel_info *info = &image->info;
	bool moved = info->relocatable && entropy;
	u64 left = room->low_ram > room->initrd_size ? room->low_ram - room->initrd_size : 0;
	u64 top = ALIGN_DOWN(left, (u64)PAGE_SIZE);
	u64 lowest = moved ? ALIGN_UP(KERNEL_LOWEST_PHYS, info->align) : info->link_phys;

	if (lowest + info->span > top)
		return too_little_memory(info, room, lowest);
	*ret = (struct kernel_place){ .phys = info->link_phys };
	if (!moved)
		return NULL;

	u64 virt_start = info->link_virt - VMLINUX_KERNEL_MAP;
	u64 phys_slots = 1 + (top - info->span - lowest) / info->align;
	u64 virt_slots = 1 + (VMLINUX_MAX_SPAN - info->span - virt_start) / info->align;

	ret->phys = lowest + choose(*entropy, phys_slots) * info->align;
	ret->virt_slide = choose(*entropy >> 32, virt_slots) * info->align;
	return NULL;
}

u64 kernel_image_entry(const struct kernel_image *image, const struct kernel_place *place)
{
	return image->info.entry - image->info.link_phys + place->phys;
}

static struct error *check_place(const struct kernel_image *image, const struct kernel_place *place)
{
	const struct kernel_info *info = &image->info;

	if (!info->relocatable && (place->phys != info->link_phys || place->virt_slide))
		return error_create(ERROR_INVALID,
				    "a kernel without relocation tables loads at 0x%llx only",
				    (unsigned long long)info->link_phys);
	if (!info->relocatable)
		return NULL;
	if (place->phys % info->align || place->virt_slide % info->align ||
	    place->virt_slide > VMLINUX_MAX_SPAN ||
	    info->link_virt - VMLINUX_KERNEL_MAP + place->virt_slide + info->span >
		    VMLINUX_MAX_SPAN)
		return error_create(ERROR_INVALID, "a kernel cannot go to 0x%llx, moved by 0x%llx",
				    (unsigned long long)place->phys,
				    (unsigned long long)place->virt_slide);
	return NULL;
}

/*
 * Puts [offset, offset + size) of the file at to: whole pages of a file that nobody writes to stay
 * shared with the page cache until the guest writes to them; what is left is copied.
 */
static struct error *load_range(const struct vmlinux *v, u8 *to, u64 offset, u64 size)
{
	u64 whole = ALIGN_DOWN(size, (u64)PAGE_SIZE);

	if (!v->immutable || (uintptr_t)to % PAGE_SIZE || offset % PAGE_SIZE)
		whole = 0;
	if (whole && mmap(to, whole, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, v->fd, offset) == MAP_FAILED)
		return error_create_errno("cannot map %llu bytes of the kernel",
					  (unsigned long long)whole);
	return size > whole ? vmlinux_read(v->fd, to + whole, size - whole, offset + whole) : NULL;
}

/* Holes of the file are not touched: they are zero in guest memory already. */
static struct error *load_segment(const struct vmlinux *v, const struct vmlinux_segment *s,
				  u8 *image)
{
	u64 end = s->offset + s->file_size;

	for (u64 pos = s->offset; pos < end;) {
		off_t data = lseek(v->fd, pos, SEEK_DATA);

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			return error_create_errno("cannot read the kernel");
		if ((u64)data >= end)
			break;

		off_t hole = lseek(v->fd, data, SEEK_HOLE);

		if (hole < 0)
			return error_create_errno("cannot read the kernel");
		pos = (u64)hole < end ? (u64)hole : end;

		struct error *err = load_range(v, image + s->image_offset + (data - s->offset),
					       data, pos - data);

		if (err)
			return err;
	}
	return NULL;
}

static bool page_is_relocated(const struct vmlinux *v, u64 page)
{
	return v->relocated_pages[page / 64] >> (page % 64) & 1;
}

/*
 * Faults the pages that relocations are going to write to in by runs, at half the cost of one fault
 * each. Only speed is lost where the host cannot (Linux before 5.14).
 */
static void populate(const struct vmlinux *v, u8 *image)
{
	u64 pages = v->span / PAGE_SIZE;

	for (u64 page = 0; page < pages;) {
		if (!page_is_relocated(v, page)) {
			page++;
			continue;
		}

		u64 start = page, end = page + 1;

		while (++page < pages && page - end <= POPULATE_GAP)
			if (page_is_relocated(v, page))
				end = page + 1;
		if (madvise(image + start * PAGE_SIZE, (end - start) * PAGE_SIZE,
			    MADV_POPULATE_WRITE) < 0)
			return;
	}
}

static struct error *check_unchanged(const struct vmlinux *v)
{
	struct stat now;

	if (fstat(v->fd, &now) < 0)
		return error_create_errno("cannot examine the kernel");
	if (now.st_size != v->stat.st_size || now.st_mtim.tv_sec != v->stat.st_mtim.tv_sec ||
	    now.st_mtim.tv_nsec != v->stat.st_mtim.tv_nsec)
		return error_with_hint(
			error_create(ERROR_FORMAT, "the kernel image changed while it was in use"),
			"wait until it has been built, then start again");
	return NULL;
}

struct error *kernel_image_load(const struct kernel_image *image, struct guest_memory *memory,
				const struct kernel_place *place)
{
	const struct vmlinux *v = &image->vmlinux;
	struct error *err = check_place(image, place);

	if (err)
		return err;

	u8 *to = guest_memory_at(memory, place->phys, v->span);

	if (!to)
		return error_create(
			ERROR_INVALID, "there is no memory for the kernel at 0x%llx to 0x%llx",
			(unsigned long long)place->phys, (unsigned long long)place->phys + v->span);
	for (u32 i = 0; i < v->segment_count; i++) {
		err = load_segment(v, &v->segments[i], to);
		if (err)
			return err;
	}
	guest_memory_note_foreign(memory, to, v->span);
	err = check_unchanged(v);
	if (err)
		return err;
	if (place->virt_slide) {
		populate(v, to);
		relocation_tables_apply(&v->tables, to, place->virt_slide);
	}
	return NULL;
}
