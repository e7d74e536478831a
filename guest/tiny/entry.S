/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the tiny guest starts: the boot CPU in 64-bit mode, the others in real mode; and its exceptions.
 * Depends on tiny.h.
 */
#include "tiny/tiny.h"

	.section .text.entry, "ax"
	.code64
	.globl _start
/* rsi: the zero page. Identity mapping, interrupts off, a GDT of the loader's. */
_start:
	movb	$TINY_FIRST_BYTE, %al
	outb	%al, $TINY_FIRST_PORT
	.globl	start_64
start_64:
	cli
	cld
	movl	$boot_stack_end, %esp
	lgdt	gdt_pointer
	pushq	$TINY_CS
	pushq	$1f
	lretq
1:	call	load_data_segments
	movq	%rsi, %rdi
	call	tiny_main

load_data_segments:
	movl	$TINY_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	ret

/* The other CPUs, in long mode by now: number themselves, take a stack. */
ap_long:
	movl	$1, %edi
	lock xaddl %edi, ap_numbers
	movl	%edi, %esp
	incl	%esp
	imull	$TINY_AP_STACK_SIZE, %esp
	addl	$TINY_AP_STACKS_GPA, %esp
	call	load_data_segments
	incl	%edi			/* CPU 0 is the boot CPU */
	call	ap_main

/*
 * Copied to TINY_TRAMPOLINE_GPA, entered in real mode with cs = that / 16. From there to long mode
 * in one step, with the boot CPU's page tables.
 */
	.code16
	.globl trampoline_start, trampoline_end, trampoline_cr3, trampoline_cr4
trampoline_start:
	cli
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	trampoline_gdt_pointer - trampoline_start
	movl	trampoline_cr4 - trampoline_start, %eax
	movl	%eax, %cr4
	movl	trampoline_cr3 - trampoline_start, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	/* EFER */
	rdmsr
	orl	$0x100, %eax		/* LME */
	wrmsr
	movl	$0x80000011, %eax	/* PG, ET, PE */
	movl	%eax, %cr0
	ljmpl	$TINY_CS, $ap_long

	.balign	4
trampoline_cr3:
	.long	0
trampoline_cr4:
	.long	0
trampoline_gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
trampoline_end:

/* Exceptions: vector and error code (0 where the CPU pushes none) above the CPU's own frame. */
	.code64
	.globl exception_stubs
	.balign	16
exception_stubs:
	vector = 0
	.rept	32
	.balign	16
	.if	!((vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21))
	pushq	$0
	.endif
	pushq	$vector
	jmp	exception_common
	vector = vector + 1
	.endr

exception_common:
	movq	%rsp, %rdi
	andq	$-16, %rsp
	call	exception_report

	.section .data, "aw"
	.balign	8
gdt:
	.quad	0
	.quad	0
	.quad	0x00af9b000000ffff	/* TINY_CS */
	.quad	0x00cf93000000ffff	/* TINY_DS */
gdt_end:
	.globl	gdt_pointer
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt

	.balign	4
	.globl	ap_numbers
ap_numbers:
	.long	0

	.section .bss, "aw", @nobits
	.balign	16
boot_stack:
	.skip	8192
boot_stack_end:

	.section .note.GNU-stack, "", @progbits
