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
	VECTOR_TICK = 0x43, /* the same timer, as a clock */
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

/* Has pending interrupts handled, without waiting for one: whoever is never idle would take none. */
void interrupts_take(void);

/* This CPU's own timer: VECTOR_TIMER every so many milliseconds, once after them (at most 60,000), or at a time. */
void timer_start(u32 ms);
void timer_start_once(u32 ms);
void timer_start_deadline(u64 tsc);
void timer_stop(void);
/* How many there have been, on all CPUs. */
u32 timer_ticks(void);

/* This CPU's timer as a clock: each interrupt counts one up and, where deadlines do it, sets the next one. */
struct ticks {
	volatile u64 count;
	u64 deadline, step; /* of the TSC; step 0: by the APIC's own count, which is periodic */
};

/* From now on. *t belongs to this CPU's interrupt from then on; the count may be read. */
void ticks_start(struct ticks *t, u32 ms);
void ticks_start_by_deadline(struct ticks *t, u64 step);

/* The TSC's frequency as the host tells it; 0: it does not. */
u32 tsc_khz(void);
bool timer_has_deadline(void);

__attribute__((noreturn)) void machine_reset(void);
__attribute__((noreturn)) void machine_power_off(void);
__attribute__((noreturn)) void machine_triple_fault(void);

#endif
