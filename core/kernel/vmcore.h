/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A frozen machine as an ELF core file that crash (8) and drgn open: all memory, each CPU's registers, VMCOREINFO.
 * Depends on base, kvm/memory.h and image/store.h. The memory must not change meanwhile: a frozen machine's.
 * Pages of zeros are holes in the file. It is complete or not there.
 */
#ifndef KERNEL_VMCORE_H
#define KERNEL_VMCORE_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/types.h"
#include "kvm/memory.h"

struct vmcore_cpu {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	u64 kernel_gs_base;
	u32 pid; /* of the task that it runs: drgn finds a thread's registers by it */
};

struct vmcore {
	const struct guest_memory *memory;
	u64 page_offset; /* where the kernel's direct map has guest-physical address 0 */
	/* The kernel's image: its virtual address, guest-physical address and size. Its page tables are in there. */
	u64 image_start, image_gpa, image_size;
	const void *info; /* the text of VMCOREINFO, lines of NAME=value, as the kernel made it */
	size_t info_size;
	const struct vmcore_cpu *cpus; /* by the kernel's number */
	u32 cpu_count;
	/* Now and then: how many bytes of memory are done. Its error ends the writing. NULL: nobody asks. */
	struct error *(*progress)(u64 done, u64 total, void *arg);
	void *arg;
};

/* Bytes of the file, holes included. */
u64 vmcore_size(const struct vmcore *v);

/*
 * Into an empty file. ERROR_INVALID: without CPUs or VMCOREINFO no tool opens it; the image is not in the memory.
 * ERROR_OS: the disk is full, among others; the file is then incomplete. ERROR_INTERRUPTED: a signal came.
 */
MUST_CHECK struct error *vmcore_write(const struct vmcore *v, int fd);

/* The same into path, readable by its owner, whole or not at all; what was there is replaced. */
MUST_CHECK struct error *vmcore_save(const struct vmcore *v, const char *path);

#endif
