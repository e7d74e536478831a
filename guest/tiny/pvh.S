/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PVH entry, by which QEMU starts an ELF file (-kernel): 32-bit, no paging, ebx = hvm_start_info.
 * Depends on tiny.h and entry.S. Makes of it what the 64-bit boot protocol promises: identity mapping
 * of 4 GiB, long mode, and a zero page with the command line and the RSDP in it.
 */
#include "tiny/tiny.h"

	/* struct hvm_start_info */
	.set	START_CMDLINE, 24
	.set	START_RSDP, 32
	/* struct boot_params */
	.set	BOOT_RSDP, 0x70
	.set	BOOT_CMDLINE, 0x228

	.set	PRESENT_WRITABLE, 3
	.set	HUGE, 0x80

	.section .note.pvh, "a", @note
	.balign	4
	.long	4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	pvh_start

	.section .text.pvh, "ax"
	.code32
pvh_start:
	movb	$TINY_FIRST_BYTE, %al
	outb	%al, $TINY_FIRST_PORT
	cld
	movl	START_CMDLINE(%ebx), %eax
	movl	%eax, boot_params + BOOT_CMDLINE
	movl	START_RSDP(%ebx), %eax
	movl	%eax, boot_params + BOOT_RSDP
	movl	START_RSDP + 4(%ebx), %eax
	movl	%eax, boot_params + BOOT_RSDP + 4

	movl	$page_directories, %edi
	movl	$(HUGE | PRESENT_WRITABLE), %eax
1:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$0x200000, %eax
	jnc	1b			/* wraps at 4 GiB */
	movl	$(page_directories + PRESENT_WRITABLE), pdpt
	movl	$(page_directories + 0x1000 + PRESENT_WRITABLE), pdpt + 8
	movl	$(page_directories + 0x2000 + PRESENT_WRITABLE), pdpt + 16
	movl	$(page_directories + 0x3000 + PRESENT_WRITABLE), pdpt + 24
	movl	$(pdpt + PRESENT_WRITABLE), pml4

	movl	$0x20, %eax		/* PAE */
	movl	%eax, %cr4
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	/* EFER */
	rdmsr
	orl	$0x100, %eax		/* LME */
	wrmsr
	movl	$0x80000011, %eax	/* PG, ET, PE */
	movl	%eax, %cr0
	lgdtl	gdt_pointer
	movl	$boot_params, %esi
	ljmpl	$TINY_CS, $start_64

	.section .bss.pvh, "aw", @nobits
	.balign	4096
pml4:
	.skip	4096
pdpt:
	.skip	4096
page_directories:
	.skip	4 * 4096
boot_params:
	.skip	4096

	.section .note.GNU-stack, "", @progbits
