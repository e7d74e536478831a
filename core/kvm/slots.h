/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's memory as KVM's memory slots, with pages in between that the guest can only read.
 * Depends on vm.h, memory.h. A guest's write to such a page is a KVM_EXIT_MMIO; the host reads and writes it as ever.
 * Slots change while no vCPU runs: each change has a moment in which some memory is not there.
 */
#ifndef KVM_SLOTS_H
#define KVM_SLOTS_H

#include "base/error.h"
#include "base/types.h"
#include "kvm/memory.h"
#include "kvm/vm.h"

enum {
	SLOTS_PAGE_SIZE = 4096,
	SLOTS_MAX_PAGES = 256,
	SLOTS_MAX = GUEST_MEMORY_MAX_REGIONS + 2 * SLOTS_MAX_PAGES,
};

struct slot {
	u64 gpa, size;
	u8 *hva;
	u32 flags;
	u32 number; /* KVM's */
};

struct slots {
	const struct vm *vm;
	const struct guest_memory *memory;
	u32 limit; /* so many slots may there be */
	u32 page_count;
	u64 pages[SLOTS_MAX_PAGES]; /* protected; guest-physical, ascending */
	u32 count;
	struct slot slots[SLOTS_MAX]; /* as KVM has them, by address */
};

/* vm and memory must outlive it; memory's regions are vm's slots. Nothing is protected. */
void slots_init(struct slots *s, const struct kvm *kvm, const struct vm *vm, const struct guest_memory *memory);

/* Whether the page that gpa lies in is protected. */
bool slots_is_protected(const struct slots *s, u64 gpa);

/*
 * Makes exactly these pages unwritable for the guest: count addresses, page-aligned, ascending, each once and in
 * memory. After an error they are as they were, or the machine has lost memory: end it then (*broken).
 * ERROR_UNSUPPORTED: too many for this KVM, or it has no read-only memory.
 */
MUST_CHECK struct error *slots_protect(struct slots *s, const u64 *pages, u32 count, bool *broken);

/* vm_reset_slots() for memory with protected pages. */
MUST_CHECK struct error *slots_reset(struct slots *s);

#endif
