// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/hostile.h"

#include <linux/pci_regs.h>

#include "tiny/console.h"
#include "tiny/cpu.h"
#include "tiny/print.h"
#include "tiny/trap.h"
#include "x86/layout.h"

static u32 last_cpu;

static void triple_fault_if_last(u32 index)
{
	if (index == last_cpu)
		machine_triple_fault();
	halt_for_ever();
}

void hostile_triple_fault_elsewhere(struct cpus *cpus)
{
	last_cpu = cpus->up - 1;
	cpus_run(cpus, triple_fault_if_last);
	halt_for_ever();
}

static void end_machine(u32 index)
{
	if (index % 2)
		machine_power_off();
	machine_reset();
}

void hostile_end_everywhere(struct cpus *cpus)
{
	cpus_run(cpus, end_machine);
	machine_reset();
}

void hostile_shout(void)
{
	for (;;) {
		console_print("tiny: shout, shout, shout, shout, shout, shout, shout, shout\n");
		last_words_print("tiny: shout, KTSTR_EXIT:, shout, KTSTR_EXIT:0x0, shout\n");
	}
}

void hostile_hammer_vectors(void)
{
	u32 count;
	u64 entries = console_vectors(&count);

	for (u32 round = 0;; round++) {
		u64 entry = entries + round % count * PCI_MSIX_ENTRY_SIZE;

		write32(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, round & PCI_MSIX_ENTRY_CTRL_MASKBIT);
		write32(entry + PCI_MSIX_ENTRY_LOWER_ADDR, (u32)LAYOUT_LAPIC_GPA | (round & 0xff) << 12);
		write32(entry + PCI_MSIX_ENTRY_DATA, round);
	}
}
