/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 64-bit boot protocol: what lies in memory and in the boot CPU's registers when the kernel starts.
 * Depends on base, kvm/memory.h, layout.h and <linux/kvm.h>; touches no KVM descriptor.
 * Everything is bounds-checked against guest memory and nothing that is placed overlaps.
 */
#ifndef X86_BOOT_H
#define X86_BOOT_H

#include <linux/kvm.h>

#include "base/error.h"
#include "kvm/memory.h"

/* A kernel that lies in guest memory already. */
struct boot_kernel {
	u64 load_gpa; /* of its first byte, at least 1 MiB */
	u64 span; /* bytes it uses from there until it has set itself up: file, bss, brk */
	u64 entry_gpa; /* 64-bit entry, entered with rsi = the zero page */
	/* A bzImage's bytes from offset 0x1f1 to the end of its setup header; NULL: one is made up. */
	const void *setup_header;
	size_t setup_header_size;
};

struct boot_options {
	struct boot_kernel kernel;
	const char *cmdline;
	u64 initrd_gpa; /* where boot_place_initrd said; its bytes are the caller's to write */
	u64 initrd_size; /* 0: none */
	u64 rsdp_gpa; /* 0: none */
	bool kaslr; /* the kernel was moved by the host: it randomises its memory regions too */
};

/*
 * Where an initrd of size bytes goes: page-aligned, as high as possible below the hole, above 4 GiB when
 * there is no room there. ERROR_INVALID when there is none, naming the sizes and `memory=`.
 */
MUST_CHECK struct error *boot_place_initrd(const struct guest_memory *m, const struct boot_kernel *kernel,
					   u64 size, u64 *ret);

/*
 * Writes the zero page with its e820 map, the command line, a random seed for the kernel's pool, the
 * GDT and identity-mapping page tables (first 4 GiB; 4 and 5 levels both). Errors: the kernel or initrd
 * does not fit or overlaps something, the command line is longer than the kernel takes.
 */
MUST_CHECK struct error *boot_write(const struct guest_memory *m, const struct boot_options *options);

/*
 * The boot CPU at the kernel's entry, in 64-bit mode, interrupts off. sregs comes from KVM_GET_SREGS. Its
 * CPUID must have been set and must have what is asked for. la57: with 5-level paging. x2apic: with the
 * x2APIC on, as firmware hands over where an APIC id is above 254: Linux ignores those CPUs otherwise.
 * The other CPUs start as KVM leaves them, waiting for INIT and SIPI.
 */
void boot_fill_sregs(struct kvm_sregs *sregs, bool la57, bool x2apic);
void boot_fill_regs(struct kvm_regs *regs, u64 entry_gpa);

/*
 * The MSRs that firmware would have set on every CPU: MTRRs on with everything write-back, fast strings.
 * Writes at most max entries and returns their number, BOOT_MSRS.
 */
enum { BOOT_MSRS = 2 };
u32 boot_msrs(struct kvm_msr_entry *entries, u32 max);

#endif
