// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/smp.h"

#include "tiny/cpu.h"
#include "tiny/print.h"
#include "tiny/trap.h"

enum {
	RSDP_REVISION = 15,
	RSDP_RSDT = 16,
	RSDP_XSDT = 24,
	TABLE_LENGTH = 4,
	TABLE_HEADER = 36,
	MADT_ENTRIES = 44,
	MADT_LOCAL_APIC = 0,
	MADT_LOCAL_X2APIC = 9,
	MADT_ENABLED = 1,
	XAPIC_ID_MAX = 254,
	TICK_MS = 10,
};

extern const u8 trampoline_start[], trampoline_end[], trampoline_cr3[], trampoline_cr4[];

/* What the other CPUs look at when they come up. */
static struct {
	struct cpus *cpus;
	u32 boot_id;
	bool x2apic;
} shared;

/* Tables are not aligned to what they hold. */
static u32 get32(u64 address)
{
	u32 v;

	memcpy(&v, (const void *)address, sizeof(v));
	return v;
}

static u64 get64(u64 address)
{
	return (u64)get32(address + 4) << 32 | get32(address);
}

static u64 find_madt(u64 rsdp)
{
	// Tables of ACPI 1.0 have addresses of 32 bits.
	bool wide = read8(rsdp + RSDP_REVISION) >= 2;
	u64 root = wide ? get64(rsdp + RSDP_XSDT) : get32(rsdp + RSDP_RSDT);
	u64 end = root + get32(root + TABLE_LENGTH), step = wide ? 8 : 4;

	for (u64 entry = root + TABLE_HEADER; entry + step <= end; entry += step) {
		u64 table = wide ? get64(entry) : get32(entry);

		if (memcmp((const void *)table, "APIC", 4) == 0)
			return table;
	}
	return 0;
}

/* The APIC ids of enabled CPUs; returns how many there are. */
static u32 read_madt(u64 madt, u32 ids[static TINY_CPUS_MAX])
{
	u64 end = madt + get32(madt + TABLE_LENGTH);
	u32 count = 0;

	for (u64 e = madt + MADT_ENTRIES; e + 2 <= end; e += read8(e + 1)) {
		u32 id, flags;

		if (read8(e) == MADT_LOCAL_APIC) {
			id = read8(e + 3);
			flags = get32(e + 4);
		} else if (read8(e) == MADT_LOCAL_X2APIC) {
			id = get32(e + 4);
			flags = get32(e + 8);
		} else {
			continue;
		}
		if (flags & MADT_ENABLED && count < TINY_CPUS_MAX)
			ids[count++] = id;
	}
	return count;
}

static void place_trampoline(void)
{
	u64 cr3, cr4;
	u8 *to = (u8 *)(u64)TINY_TRAMPOLINE_GPA;
	const u32 pae_and_la57 = 1 << 5 | 1 << 12;

	__asm__ volatile("mov %%cr3, %0"
			 : "=r"(cr3));
	__asm__ volatile("mov %%cr4, %0"
			 : "=r"(cr4));
	memcpy(to, trampoline_start, (size_t)(trampoline_end - trampoline_start));
	*(u32 *)(to + (trampoline_cr3 - trampoline_start)) = (u32)cr3;
	*(u32 *)(to + (trampoline_cr4 - trampoline_start)) = (u32)cr4 & pae_and_la57;
}

void ap_main(u32 index); /* from entry.S */

void ap_main(u32 index)
{
	struct cpus *cpus = shared.cpus;

	if (index >= TINY_CPUS_MAX)
		halt_for_ever();
	traps_enable(shared.x2apic);
	cpus->cpu[index] = (struct cpu){ .up = true, .apic_id = apic_id(), .cpuid_id = apic_id_by_cpuid() };
	__atomic_fetch_add(&cpus->up, 1, __ATOMIC_SEQ_CST);
	apic_send_wake(shared.boot_id);
	while (!cpus->work)
		wait_for_interrupt();
	cpus->work(index);
	halt_for_ever();
}

bool cpus_start(struct cpus *cpus, u64 rsdp, u32 seconds)
{
	u64 madt = rsdp ? find_madt(rsdp) : 0;
	u32 ids[TINY_CPUS_MAX], count = 0;
	bool x2apic = apic_is_x2();

	if (madt)
		count = read_madt(madt, ids);
	for (u32 i = 0; i < count; i++)
		x2apic |= ids[i] > XAPIC_ID_MAX;
	traps_enable(x2apic);
	shared.cpus = cpus;
	shared.boot_id = apic_id();
	shared.x2apic = x2apic;
	cpus->cpu[0] = (struct cpu){ .up = true, .apic_id = shared.boot_id, .cpuid_id = apic_id_by_cpuid() };
	cpus->listed = count ? count : 1;
	cpus->up = 1;
	place_trampoline();
	for (u32 i = 0; i < count; i++) {
		if (ids[i] == shared.boot_id)
			continue;
		apic_send_init(ids[i]);
		apic_send_startup(ids[i], TINY_TRAMPOLINE_GPA);
	}

	u32 end = timer_ticks() + seconds * 1000 / TICK_MS;

	timer_start(TICK_MS);
	while (cpus->up < cpus->listed && (s32)(end - timer_ticks()) > 0)
		wait_for_interrupt();
	timer_stop();
	return cpus->up == cpus->listed;
}

void cpus_run(struct cpus *cpus, void (*work)(u32 index))
{
	cpus->work = work;
	for (u32 i = 1; i < TINY_CPUS_MAX; i++)
		if (cpus->cpu[i].up)
			apic_send_wake(cpus->cpu[i].apic_id);
}
