/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's physical memory as the host sees it: one reserved address range, split round the hole.
 * Depends on base. Every access by guest-physical address is bounds-checked here, once.
 */
#ifndef KVM_MEMORY_H
#define KVM_MEMORY_H

#include "base/error.h"
#include "base/types.h"

enum { GUEST_MEMORY_MAX_REGIONS = 2 };

/* Guest-physical [gpa, gpa + size) lies at hva. */
struct guest_region {
	u64 gpa, size;
	u8 *hva;
};

struct guest_memory {
	u8 *base; /* the whole reservation: the regions follow one another in it */
	u64 size; /* bytes, a multiple of 2 MiB */
	u32 region_count;
	int file; /* its own descriptor of the file it is mapped from, whose holes are zeros; 0: none, zeros at first */
	u64 foreign_start, foreign_end; /* of it: here are pages of other files; both 0: nowhere */
	struct guest_region regions[GUEST_MEMORY_MAX_REGIONS];
};

/*
 * Reserves size bytes (zero, private) as guest memory from 0 up to hole_start, the rest from hole_end
 * (4 GiB). ERROR_NO_MEMORY when the host cannot. Units: bytes.
 */
MUST_CHECK struct error *guest_memory_init(struct guest_memory *m, u64 size, u64 hole_start, u64 hole_end);
/*
 * The same with a file's contents, mapped privately: what the guest writes stays its own. The byte at guest-physical
 * address 0 is the file's first, the one at hole_end follows the one before hole_start; its holes are zeros.
 * ERROR_FORMAT when the file is shorter than size. fd may be closed afterwards; the file must not change as long as
 * the memory lives.
 */
MUST_CHECK struct error *guest_memory_init_file(struct guest_memory *m, u64 size, u64 hole_start, u64 hole_end,
						int fd);
/*
 * Makes its contents the file's, whatever they were. For memory that nobody uses at that moment; a KVM that shadows
 * the guest's page tables has to be told (vm_reset_slots()). ERROR_FORMAT (too short) leaves it as it was.
 */
MUST_CHECK struct error *guest_memory_refill(struct guest_memory *m, int fd);
void guest_memory_deinit(struct guest_memory *m);
/*
 * Says that files have been mapped over some of [start, start + size), which is in m. What is there is then neither
 * zero nor of m's own file for not having been touched.
 */
void guest_memory_note_foreign(struct guest_memory *m, const u8 *start, u64 size);
/*
 * Asks for huge pages, for what has not been touched yet. Best done when the guest has been loaded: the few
 * pages of tables and kernel that are written before it runs would each cost clearing 2 MiB.
 */
void guest_memory_advise_huge(const struct guest_memory *m);

/* The host's address of [gpa, gpa + len), or NULL when any byte of it is not memory. len 0 is NULL. */
void *guest_memory_at(const struct guest_memory *m, u64 gpa, u64 len);

#endif
