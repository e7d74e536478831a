/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tiny guest's addresses, for the guest itself and for the tests that look into its memory.
 * Depends on nothing; the assembly includes it too.
 *
 * The tiny guest is a 64-bit "kernel" of a few hundred lines that boots by Linux's 64-bit boot protocol.
 * Its command line says what it does: words `tiny.run=NAME` or `tiny.run=NAME=NUMBER`, in order
 * (scenarios in main.c). After the last word it resets, without having reported anything by itself.
 * On hosts that interpret kernel-mode code it must keep to plain integer instructions.
 */
#ifndef TINY_TINY_H
#define TINY_TINY_H

/* Its first instruction but one writes TINY_FIRST_BYTE here, whatever it is told to do. */
#define TINY_FIRST_PORT 0xe9
#define TINY_FIRST_BYTE 't'

#define TINY_CPUS_MAX 256

/* A u64 for each CPU that counts (0: the boot CPU, then as the others came up), 64 bytes apart. */
#define TINY_COUNTERS_GPA 0x30000
#define TINY_COUNTER_STRIDE 64

/*
 * Scenario `io`: u64 rounds done, u64 mismatches; at TINY_IO_BUFFER_GPA what its string instructions copy; at
 * TINY_IO_BOUNDARIES_GPA a u64 count and, in order, the address of each instruction of the loop in io_loop.S.
 */
#define TINY_IO_GPA 0x34000
#define TINY_IO_BUFFER_GPA 0x34040
#define TINY_IO_BOUNDARIES_GPA 0x35000

/* The scenarios that capture: u64 sent, then replies: done, busy, timeout, failed, strange. */
#define TINY_CAPTURES_GPA 0x36000

/* Scenario `watch` (watch.h): pages that it writes to when told, and where its copies come from. */
#define TINY_WATCH_GPA 0x38000
#define TINY_WATCH_SIZE 0x7000
#define TINY_WATCH_SOURCE_GPA 0x3f000

/* The scenarios `warm` (warm.h): what OP_WRITE puts into their one file, from its first byte on. */
#define TINY_WARM_GPA 0x200000
#define TINY_WARM_SIZE 0x400000

/* Where other CPUs start in real mode, and their stacks: low memory that the boot protocol leaves alone. */
#define TINY_TRAMPOLINE_GPA 0x10000
#define TINY_AP_STACKS_GPA 0x40000
#define TINY_AP_STACK_SIZE 0x400

/* Segment selectors: those of the boot protocol. */
#define TINY_CS 0x10
#define TINY_DS 0x18
#define TINY_USER_DS 0x23
#define TINY_USER_CS 0x2b
#define TINY_TSS 0x30

#endif
