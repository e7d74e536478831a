/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts and exceptions, the local APIC, and the ways a machine ends.
 * Depends on cpu.h, print.h. Interrupts are off except inside wait_for_interrupt().
 * An exception prints itself on COM1 and COM2 and resets.
 */
#ifndef TINY_TRAP_H
#define TINY_TRAP_H

#include "base/types.h"

enum {
	VECTOR_DEVICE = 0x40, /* MSI-X of the console */
	VECTOR_WAKE = 0x41, /* from another CPU */
	VECTOR_TIMER = 0x42,
};

/* Builds the IDT; once, on the boot CPU. */
void traps_init(void);
/* This CPU takes interrupts: IDT loaded, local APIC on, as an x2APIC if x2apic or if it is one already. */
void traps_enable(bool x2apic);

u32 apic_id(void);
/* What CPUID says the id is: leaf 0xb, or leaf 1 where there is none. */
u32 apic_id_by_cpuid(void);
bool apic_is_x2(void);
void apic_send_init(u32 id);
void apic_send_startup(u32 id, u64 address);
void apic_send_wake(u32 id);

/* This CPU's own timer: VECTOR_TIMER every so many milliseconds, once after them (at most 60,000), or at a time. */
void timer_start(u32 ms);
void timer_start_once(u32 ms);
void timer_start_deadline(u64 tsc);
void timer_stop(void);
/* How many there have been, on all CPUs. */
u32 timer_ticks(void);

__attribute__((noreturn)) void machine_reset(void);
__attribute__((noreturn)) void machine_power_off(void);
__attribute__((noreturn)) void machine_triple_fault(void);

#endif
