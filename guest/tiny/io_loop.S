/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loop of scenario `io`: port and memory-mapped accesses whose every value follows from one counter.
 * Depends on tiny.h. Never returns; no interrupts, no stack.
 * Whoever stops it can tell from rip and the counter what every register, every cell and the bytes on COM1
 * must be: tests/vm/tiny_io.lua has the same instructions, in the same order, and says what each does.
 *
 * COM2 loops back into its receive FIFO, so that an access made twice, or never, shows in what is read later.
 */
#include "tiny/tiny.h"

/* An instruction whose address is put on the list that the host is given. */
	.macro op insn:vararg
991:	\insn
	.pushsection .rodata.io_boundaries, "a"
	.quad	991b
	.popsection
	.endm

	.section .rodata.io_boundaries, "a"
	.balign	8
	.globl	io_boundaries, io_boundaries_end
io_boundaries:

	.section .text.io, "ax"
	.code64
	.globl	io_loop
/* rdi: an MSI-X table, its first entry masked; rsi: another of its entries, masked too; edx, ecx: COM1, COM2. */
io_loop:
	movq	%rdi, %r14
	movq	%rsi, %r12
	movl	%edx, %r10d
	movl	%ecx, %r11d
	movl	$TINY_IO_GPA, %r13d
	movl	$TINY_IO_BUFFER_GPA, %r15d
	xorl	%ebx, %ebx

io_round:
	/* A byte to the console, where the host sees it come. */
	op	incq %rbx
	op	movl %ebx, %eax
	op	andl $31, %eax
	op	orl $64, %eax
	op	movl %r10d, %edx
	op	outb %al, %dx

	/* Two bytes into the FIFO, and out. */
	op	movl %ebx, %eax
	op	movl %r11d, %edx
	op	outb %al, %dx
	op	notl %eax
	op	outb %al, %dx
	op	xorl %eax, %eax
	op	inb %dx, %al
	op	cmpb %bl, %al
	op	jne io_mismatch
	op	inb %dx, %al
	op	notb %al
	op	cmpb %bl, %al
	op	jne io_mismatch

	/* Eight bytes, by string instructions: to the console, into the FIFO, and out. */
	op	movabsq $0x0f0f0f0f0f0f0f0f, %rax
	op	andq %rbx, %rax
	op	movabsq $0x4040404040404040, %r8
	op	orq %r8, %rax
	op	movq %rax, (%r15)
	op	movl $8, %ecx
	op	movq %r15, %rsi
	op	movl %r10d, %edx
	op	rep outsb
	op	movl $8, %ecx
	op	movq %r15, %rsi
	op	movl %r11d, %edx
	op	rep outsb
	op	movl $8, %ecx
	op	leaq 8(%r15), %rdi
	op	rep insb
	op	cmpq %rax, 8(%r15)
	op	jne io_mismatch

	/* Memory-mapped: four bytes, eight, and eight of which each half lies in a page of its own. */
	op	imulq $0x01000193, %rbx, %rax
	op	movl %eax, (%r12)
	op	movl (%r12), %r8d
	op	cmpl %eax, %r8d
	op	jne io_mismatch
	op	notq %rax
	op	movq %rax, (%r12)
	op	movq (%r12), %r8
	op	cmpq %rax, %r8
	op	jne io_mismatch
	op	movq %rax, -4(%r14)
	op	movq -4(%r14), %r8
	op	shrq $32, %r8
	op	shrq $32, %rax
	op	cmpq %rax, %r8
	op	jne io_mismatch

	/* Three words of the buffer, to the entry and back. */
	op	imulq $0x01000193, %rax, %rax
	op	movq %rax, (%r15)
	op	movl %ebx, 8(%r15)
	op	movl $3, %ecx
	op	movq %r15, %rsi
	op	movq %r12, %rdi
	op	rep movsl
	op	movl $3, %ecx
	op	movq %r12, %rsi
	op	leaq 16(%r15), %rdi
	op	rep movsl
	op	cmpq %rax, 16(%r15)
	op	jne io_mismatch
	op	cmpl %ebx, 24(%r15)
	op	jne io_mismatch

	op	incq (%r13)
	op	jmp io_round

io_mismatch:
	incq	8(%r13)
	jmp	io_round

	.section .rodata.io_boundaries, "a"
io_boundaries_end:

	.section .note.GNU-stack, "", @progbits
