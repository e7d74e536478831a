// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/load.h"

#include <linux/serial_reg.h>

#include "tiny/console.h"
#include "tiny/cpu.h"
#include "tiny/report.h"
#include "tiny/trap.h"
#include "tiny/user.h"
#include "x86/layout.h"

enum {
	START_SECONDS = 60,
	HALT_MS = 100,
	MSIX_ENTRY_SIZE = 16,
	MSIX_TABLE_SIZE = 4096, /* the page that it lies in */
	PORT_BYTES = 4096,
};

static struct {
	struct cpus *cpus;
	enum load_kind kind;
	volatile u32 at_work; /* CPUs, but for the boot CPU */
} load;

static volatile u64 *counter_of(u32 index)
{
	return (volatile u64 *)(u64)(TINY_COUNTERS_GPA + index * TINY_COUNTER_STRIDE);
}

void load_count(u32 index)
{
	// An increment and a jump: whoever executes it step by step knows what each does.
	__asm__ volatile("1:	incq	(%0)\n\t"
			 "jmp	1b"
			 :
			 : "D"(counter_of(index))
			 : "memory");
	__builtin_unreachable();
}

static void count_wake_ups(u32 index)
{
	timer_start(HALT_MS);
	for (;;) {
		wait_for_interrupt();
		++*counter_of(index);
	}
}

static void work(u32 index)
{
	static const enum load_kind mix[] = { LOAD_KERNEL, LOAD_USER, LOAD_HALT, LOAD_DEAD };
	enum load_kind kind = load.kind == LOAD_MIXED ? mix[index % ARRAY_SIZE(mix)] : load.kind;

	if (kind == LOAD_KERNEL)
		load_count(index);
	if (kind == LOAD_USER)
		user_count(index, counter_of(index));
	if (kind == LOAD_HALT)
		count_wake_ups(index);
	halt_for_ever();
}

static void say_and_work(u32 index)
{
	__atomic_fetch_add(&load.at_work, 1, __ATOMIC_SEQ_CST);
	apic_send_wake(load.cpus->cpu[0].apic_id);
	work(index);
}

void load_run(struct cpus *cpus, u64 rsdp, enum load_kind kind)
{
	load.cpus = cpus;
	load.kind = kind;
	user_allow_memory();
	if (!cpus_start(cpus, rsdp, START_SECONDS))
		machine_reset();
	cpus_run(cpus, say_and_work);
	while (load.at_work < cpus->up - 1)
		wait_for_interrupt();
	report_at_work();
	work(0);
	halt_for_ever();
}

static void copy_words(u64 to, const void *from, u64 count)
{
	__asm__ volatile("rep movsl"
			 : "+D"(to), "+S"(from), "+c"(count)
			 :
			 : "memory");
}

static void copy_to_port(u16 port, const void *from, u64 count)
{
	__asm__ volatile("rep outsb"
			 : "+S"(from), "+c"(count)
			 : "d"(port)
			 : "memory");
}

void load_copy(void)
{
	static const u8 from[PORT_BYTES];
	u32 entries;
	u64 table = console_vectors(&entries), used = (u64)entries * MSIX_ENTRY_SIZE;

	for (;;) {
		copy_words(table + used, from, (MSIX_TABLE_SIZE - used) / sizeof(u32));
		copy_to_port(LAYOUT_COM2_PORT + UART_SCR, from, PORT_BYTES);
		++*counter_of(0);
	}
}
