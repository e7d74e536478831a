// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/trap.h"

#include "tiny/cpu.h"
#include "tiny/print.h"
#include "tiny/tiny.h"
#include "x86/layout.h"

enum {
	MSR_APIC_BASE = 0x1b,
	APIC_BASE_ENABLE = 1 << 11,
	APIC_BASE_X2 = 1 << 10,
	MSR_X2APIC = 0x800, /* plus a register's offset / 16 */

	APIC_ID = 0x20,
	APIC_EOI = 0xb0,
	APIC_SPURIOUS = 0xf0,
	APIC_ICR = 0x300,
	APIC_ICR_HIGH = 0x310,
	APIC_TIMER = 0x320,
	APIC_TIMER_INITIAL = 0x380,
	APIC_TIMER_DIVIDE = 0x3e0,

	SPURIOUS_ENABLE = 1 << 8,
	SPURIOUS_VECTOR = 0xff,
	TIMER_MASKED = 1 << 16,
	TIMER_PERIODIC = 1 << 17,
	TIMER_DEADLINE = 2 << 17,
	DIVIDE_BY_16 = 3,
	COUNTS_PER_MS = 62500, /* of KVM's 1 GHz, divided by 16 */
	MSR_TSC_DEADLINE = 0x6e0,
	DEADLINE_1_ECX = 24,
	LEAF_HYPERVISOR = 0x40000000,
	LEAF_TIMING = 0x40000010, /* eax: the TSC's kHz */

	ICR_ASSERT = 1 << 14,
	ICR_INIT = 5 << 8,
	ICR_STARTUP = 6 << 8,
	ICR_BUSY = 1 << 12,
};

enum {
	PIC_MASTER_MASK = 0x21,
	PIC_SLAVE_MASK = 0xa1,
};

struct gate {
	u16 offset_low, selector, type, offset_middle;
	u32 offset_high, reserved;
};

enum {
	GATE_INTERRUPT = 0x8e00,
	GATE_SIZE = 16,
	EXCEPTIONS = 32,
	STUB_SIZE = 16,
};

static struct gate idt[256];
static volatile u32 ticks;

extern const u8 exception_stubs[];

/* The segment that nothing is addressed by: its base says whose ticks a CPU counts. */
static const u32 MSR_GS_BASE = 0xc0000101;

/* What entry.S leaves on the stack. */
struct exception {
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

void exception_report(const struct exception *e); /* from entry.S */

void exception_report(const struct exception *e)
{
	char buffer[160];
	u64 cr2;
	struct text t = { .data = buffer, .capacity = sizeof(buffer) - 1 };

	__asm__ volatile("mov %%cr2, %0"
			 : "=r"(cr2));
	text_put(&t, "tiny: exception ");
	text_put_number(&t, (s64)e->vector);
	text_put(&t, " error 0x");
	text_put_hex(&t, e->error);
	text_put(&t, " rip 0x");
	text_put_hex(&t, e->rip);
	text_put(&t, " cr2 0x");
	text_put_hex(&t, cr2);
	text_put(&t, "\n");
	buffer[t.size] = '\0';
	console_print(buffer);
	last_words_print(buffer);
	machine_reset();
}

bool apic_is_x2(void)
{
	return msr_read(MSR_APIC_BASE) & APIC_BASE_X2;
}

static u32 apic_read(u32 reg)
{
	if (apic_is_x2())
		return (u32)msr_read(MSR_X2APIC + reg / 16);
	return read32(LAYOUT_LAPIC_GPA + reg);
}

static void apic_write(u32 reg, u32 v)
{
	if (apic_is_x2())
		msr_write(MSR_X2APIC + reg / 16, v);
	else
		write32(LAYOUT_LAPIC_GPA + reg, v);
}

u32 apic_id(void)
{
	u32 id = apic_read(APIC_ID);

	return apic_is_x2() ? id : id >> 24;
}

u32 apic_id_by_cpuid(void)
{
	if (cpuid(0, 0).a >= 0xb && cpuid(0xb, 0).b)
		return cpuid(0xb, 0).d;
	return cpuid(1, 0).b >> 24;
}

static void apic_send(u32 id, u32 command)
{
	if (apic_is_x2()) {
		msr_write(MSR_X2APIC + APIC_ICR / 16, (u64)id << 32 | command);
		return;
	}
	write32(LAYOUT_LAPIC_GPA + APIC_ICR_HIGH, id << 24);
	write32(LAYOUT_LAPIC_GPA + APIC_ICR, command);
	while (read32(LAYOUT_LAPIC_GPA + APIC_ICR) & ICR_BUSY)
		; // never more than once in a virtual machine
}

void apic_send_init(u32 id)
{
	apic_send(id, ICR_INIT | ICR_ASSERT);
}

void apic_send_startup(u32 id, u64 address)
{
	apic_send(id, ICR_STARTUP | ICR_ASSERT | (u32)(address >> 12));
}

void apic_send_wake(u32 id)
{
	apic_send(id, ICR_ASSERT | VECTOR_WAKE);
}

/* The one that it sends itself ends the wait, if no other does. */
void interrupts_take(void)
{
	apic_send_wake(apic_id());
	wait_for_interrupt();
}

struct interrupt_frame;

__attribute__((interrupt)) static void on_interrupt(struct interrupt_frame *frame)
{
	apic_write(APIC_EOI, 0);
}

__attribute__((interrupt)) static void on_timer(struct interrupt_frame *frame)
{
	ticks++;
	apic_write(APIC_EOI, 0);
}

/* Ticks that were missed, for the machine stood still, are not made up for. */
static void set_next_deadline(struct ticks *t)
{
	u64 now = tsc_read();

	t->deadline += t->step;
	if (t->deadline <= now)
		t->deadline = now + t->step;
	msr_write(MSR_TSC_DEADLINE, t->deadline);
}

__attribute__((interrupt)) static void on_tick(struct interrupt_frame *frame)
{
	struct ticks *t = (struct ticks *)msr_read(MSR_GS_BASE);

	t->count++;
	if (t->step)
		set_next_deadline(t);
	apic_write(APIC_EOI, 0);
}

__attribute__((interrupt)) static void on_spurious(struct interrupt_frame *frame)
{
}

static void set_gate(u32 vector, const void *handler)
{
	u64 address = (uintptr_t)handler;

	idt[vector] = (struct gate){
		.offset_low = (u16)address,
		.selector = TINY_CS,
		.type = GATE_INTERRUPT,
		.offset_middle = (u16)(address >> 16),
	};
}

struct table_pointer {
	u16 limit;
	u64 base;
} __attribute__((packed));

static void load_idt(u16 limit)
{
	struct table_pointer pointer = { .limit = limit, .base = (uintptr_t)idt };

	__asm__ volatile("lidt %0"
			 :
			 : "m"(pointer));
}

void traps_init(void)
{
	for (u32 vector = 0; vector < EXCEPTIONS; vector++)
		set_gate(vector, exception_stubs + vector * STUB_SIZE);
	set_gate(VECTOR_DEVICE, on_interrupt);
	set_gate(VECTOR_WAKE, on_interrupt);
	set_gate(VECTOR_TIMER, on_timer);
	set_gate(VECTOR_TICK, on_tick);
	set_gate(SPURIOUS_VECTOR, on_spurious);
	// Firmware, where there is some, leaves the PIC's timer running, at an exception's vector.
	out8(PIC_MASTER_MASK, 0xff);
	out8(PIC_SLAVE_MASK, 0xff);
}

void traps_enable(bool x2apic)
{
	load_idt(sizeof(idt) - 1);

	u64 base = msr_read(MSR_APIC_BASE);
	u64 wanted = base | APIC_BASE_ENABLE | (x2apic ? APIC_BASE_X2 : 0);

	if (wanted != base)
		msr_write(MSR_APIC_BASE, wanted);
	apic_write(APIC_SPURIOUS, SPURIOUS_ENABLE | SPURIOUS_VECTOR);
}

static void timer_set(u32 entry, u32 ms)
{
	apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_16);
	apic_write(APIC_TIMER, entry);
	apic_write(APIC_TIMER_INITIAL, ms * COUNTS_PER_MS);
}

static void timer_set_deadline(u8 vector, u64 tsc)
{
	apic_write(APIC_TIMER, TIMER_DEADLINE | vector);
	// The APIC's own registers are memory, where they are not MSRs: that write has to come first.
	__asm__ volatile("mfence"
			 :
			 :
			 : "memory");
	msr_write(MSR_TSC_DEADLINE, tsc);
}

void timer_start(u32 ms)
{
	timer_set(TIMER_PERIODIC | VECTOR_TIMER, ms);
}

void timer_start_once(u32 ms)
{
	timer_set(VECTOR_TIMER, ms);
}

void timer_start_deadline(u64 tsc)
{
	timer_set_deadline(VECTOR_TIMER, tsc);
}

void ticks_start(struct ticks *t, u32 ms)
{
	t->step = 0;
	msr_write(MSR_GS_BASE, (uintptr_t)t);
	timer_set(TIMER_PERIODIC | VECTOR_TICK, ms);
}

void ticks_start_by_deadline(struct ticks *t, u64 step)
{
	t->step = step;
	t->deadline = tsc_read() + step;
	msr_write(MSR_GS_BASE, (uintptr_t)t);
	timer_set_deadline(VECTOR_TICK, t->deadline);
}

void timer_stop(void)
{
	apic_write(APIC_TIMER, TIMER_MASKED | VECTOR_TIMER);
}

u32 timer_ticks(void)
{
	return ticks;
}

u32 tsc_khz(void)
{
	return cpuid(LEAF_HYPERVISOR, 0).a >= LEAF_TIMING ? cpuid(LEAF_TIMING, 0).a : 0;
}

bool timer_has_deadline(void)
{
	return cpuid(1, 0).c & 1u << DEADLINE_1_ECX;
}

/* A machine without a keyboard controller gets the reset that none can refuse. */
void machine_reset(void)
{
	out8(LAYOUT_I8042_PORT + 4, 0xfe);
	machine_triple_fault();
}

void machine_power_off(void)
{
	out16(LAYOUT_PM_CONTROL_PORT, LAYOUT_PM_SLP_TYP_S5 << LAYOUT_PM_SLP_TYP_SHIFT | LAYOUT_PM_SLP_EN);
	halt_for_ever();
}

/* An exception without an IDT is a double fault, and that one without is the end. */
void machine_triple_fault(void)
{
	load_idt(0);
	__asm__ volatile("ud2");
	halt_for_ever();
}
