/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest kernel's memory by its own virtual addresses: translation, bounded reads and writes.
 * Depends on base, kvm/memory.h, image/kernel.h, x86/paging.h. The guest may run: each aligned scalar is read and
 * written at once, and nothing that is found in memory is believed without a check.
 * One thread at a time. An unmapped address is ERROR_UNMAPPED with the address and the level where the walk ended.
 */
#ifndef KERNEL_VIEW_H
#define KERNEL_VIEW_H

#include "base/error.h"
#include "base/types.h"
#include "image/kernel.h"
#include "kvm/memory.h"

/* A kernel as it was put into a guest's memory, and how many levels its page tables have. */
struct placed_kernel {
	struct kernel_place place;
	u64 link_virt; /* virtual address of its first byte, as linked */
	u64 span; /* bytes, BSS included */
	u32 levels; /* 4 or 5 */
};

/* Whether all of it is in that memory, and in the address space. */
bool placed_kernel_fits(const struct placed_kernel *kernel, const struct guest_memory *memory);

/* A range of kernel addresses that lies in guest memory as it is: no walk is needed. size 0: there is none. */
struct view_range {
	u64 start, size;
	u64 gpa; /* of its first byte */
	u8 *hva;
};

enum { VIEW_RANGES = 3 };

/* A piece of memory that was recorded. data has the same place in a word as address. */
struct view_segment {
	u64 address, size;
	const u8 *data;
};

/*
 * What lies over the guest's own bytes while it runs, and is not to be seen. begin() after a read, on any thread: false
 * where there was nothing until then; else nothing comes or goes until end(), which puts right what was read.
 */
struct view_cover {
	bool (*begin)(void *ctx);
	void (*end)(void *ctx, const u8 *from, u8 *bytes, size_t size);
	void *ctx;
};

/*
 * LuaJIT reads this struct, too (lua/ktstr/kernel/c.lua): an object's plain loads go by frozen, generation, ranges.
 *
 * One who looks does so in this order. From view_init() on the image's range is there: whatever has an address in the
 * image (linux_banner, page_offset_base, init_task) can be read, at any time. Then, once the kernel has set up its
 * page tables: view_set_root(view, address of init_top_pgt), view_set_direct_map(view, value of page_offset_base).
 * Both say so when it has not, and may be tried again. They hold until the machine's end, also over freeze, thaw and
 * rewind.
 *
 * generation changes when what was seen in a freeze may not be so any more; it is never 0. What was made while the
 * machine ran belongs to no generation.
 *
 * A machine frozen with a limit is thawed by another thread when that comes. `frozen` does not tell: it is main's, and
 * changes with main's next call. Plain loads then read what the guest writes, from memory that is still there; the
 * call of frozen() that they are part of raises the error, so their values come to nothing. The functions below look
 * first, and say ERROR_FREEZE_LIMIT.
 */
struct view {
	const struct guest_memory *memory; /* NULL: the machine is gone, and the ranges are empty */
	u32 generation; /* counts what makes the objects of a freeze stale: thaw, rewind, the end */
	u32 frozen; /* 1 while main holds the machine frozen */
	u64 root; /* guest-physical address of the kernel's top page table; 0: not known yet */
	u32 levels; /* 4 or 5 */
	u32 expirations; /* of freezes, when this one began */
	const u32 *expirations_now; /* who thaws counts here; NULL: nobody does */
	u64 slide; /* KASLR's, of the image's virtual addresses */
	/* The image, the direct map below the hole, the one above it. Checked against the page tables when set. */
	struct view_range ranges[VIEW_RANGES];
	/* What a record has, by address, without overlap; then there is nothing else, and the ranges are empty. */
	const struct view_segment *segments;
	u32 segment_count;
	u32 recorded; /* 1: of a record; 2: of one that was cut short (VIEW_RECORD_CUT) */
	const struct view_cover *cover; /* NULL: none */
};

enum { VIEW_RECORD = 1,
       VIEW_RECORD_CUT = 2 };

/* Where a byte lies. */
struct view_place {
	u64 gpa;
	u8 *hva;
	u64 left; /* bytes from here to the end of its page (of any size), range, or memory */
	u32 page_shift; /* 12, 21, 30; 0: by a range */
};

/* --- its life; for who holds the machine --- */

/* memory outlives it, or view_end(). ERROR_INVALID: the kernel is not in that memory. */
MUST_CHECK struct error *view_init(struct view *v, const struct guest_memory *memory,
				   const struct placed_kernel *kernel);
/*
 * Of a record, frozen for good: the segments outlive it. What they have not is ERROR_UNMAPPED, to write is
 * ERROR_UNSUPPORTED, and so is view_translate(): there are no physical addresses.
 */
void view_init_recorded(struct view *v, const struct view_segment *segments, u32 count, u64 slide);
/* expirations: what *expirations_now was before the freeze was asked for. */
void view_freeze(struct view *v, u32 expirations);
/* Nothing where it is not frozen. */
void view_thaw(struct view *v);
/* It has been taken back, and is still frozen. */
void view_rewind(struct view *v);
/* Whether the limit has thawed what is frozen here. */
bool view_is_expired(const struct view *v);
/* Before the memory goes: from now on everything is ERROR_ENDED. */
void view_end(struct view *v);

/* --- setting it up --- */

/*
 * address: the kernel's top page table (init_top_pgt), as it runs, so with the slide. ERROR_UNMAPPED: these tables do
 * not map the image where it was put, so the kernel has not come that far, or it is another one. ERROR_INVALID: it is
 * not in the image.
 */
MUST_CHECK struct error *view_set_root(struct view *v, u64 address);
/*
 * start: the virtual address of guest-physical 0 (page_offset_base's value). Addresses all over the memory are looked
 * up in the page tables: ERROR_UNMAPPED: one lies elsewhere, or none is mapped. ERROR_INVALID: there is no root yet,
 * or start makes no sense. What the kernel has taken out of its direct map can be read here all the same.
 */
MUST_CHECK struct error *view_set_direct_map(struct view *v, u64 start);

/*
 * --- reading and writing ---
 *
 * ERROR_ENDED: the machine is gone. ERROR_FREEZE_LIMIT: see above. A walk without a root is ERROR_UNMAPPED, too.
 * root: 0 for the kernel's own tables; or a task's: the guest-physical address of its mm's pgd.
 *
 * What is written reaches the guest at once, also where its memory is a private mapping of a file. But a KVM that
 * shadows the guest's page tables (a paravirtual one) does not see tables that the host changes until vm_reset_slots().
 */

/* Walks the tables, whatever the ranges say, when `walk`. */
MUST_CHECK struct error *view_translate(const struct view *v, u64 root, u64 address, bool walk,
					struct view_place *ret);

/*
 * Bytes from a kernel address on of which there are none, as far as one look tells; 0: what is there can be read. Of a
 * machine that is gone, and of one whose page tables are not known, all the rest is missing: UINT64_MAX.
 */
u64 view_gap(const struct view *v, u64 address);

/* Across pages; each aligned word by one access. On an error nothing is promised about data. */
MUST_CHECK struct error *view_read(const struct view *v, u64 root, u64 address, void *data, size_t size);
/* Likewise. Nothing is written before every page was found; what a running guest unmaps then stays half done. */
MUST_CHECK struct error *view_write(const struct view *v, u64 root, u64 address, const void *data, size_t size);
/* 1, 2, 4 or 8 bytes; aligned ones by one access, so never torn. ERROR_INVALID: another size. */
MUST_CHECK struct error *view_read_scalar(const struct view *v, u64 address, u32 size, u64 *ret);
MUST_CHECK struct error *view_write_scalar(const struct view *v, u64 address, u32 size, u64 value);
/* Up to max bytes or the NUL, which is not counted. Returns through *length; not terminated. */
MUST_CHECK struct error *view_read_string(const struct view *v, u64 root, u64 address, char *data, size_t max,
					  size_t *length);

#endif
