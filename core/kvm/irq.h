/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The GSI routing table, kept whole: KVM_SET_GSI_ROUTING replaces all of it each time.
 * Depends on base, vm.h. Any thread may call; one lock guards the table.
 * The PIC's and IOAPIC's routes are in it from the start and never get lost.
 */
#ifndef KVM_IRQ_H
#define KVM_IRQ_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"
#include "kvm/vm.h"

struct irq_message {
	u64 address; /* with the extended destination bits, where APIC ids exceed 254 */
	u32 data;
	bool valid;
};

struct irq_routes {
	const struct vm *vm;
	pthread_mutex_t lock;
	struct irq_message *messages; /* by GSI */
	u32 count; /* GSIs known: VM_IOAPIC_PINS, then the allocated ones */
	u32 capacity;
	bool dirty; /* changed since the last commit */
};

/*
 * Starts with the routes that real hardware has (in-kernel irqchip: GSI 0 to 15 to the PIC, 0 to 23
 * to the IOAPIC, ISA's timer on pin 2) or, with a split one, none; the vm (which has one of the two) must
 * outlive it.
 */
MUST_CHECK struct error *irq_routes_init(struct irq_routes *routes, const struct vm *vm);
void irq_routes_deinit(struct irq_routes *routes);

/* count GSIs for MSIs, in a row from *ret on; they have no message yet. */
MUST_CHECK struct error *irq_routes_allocate(struct irq_routes *routes, u32 count, u32 *ret);

/*
 * What a GSI delivers from the next commit on. gsi: an allocated one, or with a split irqchip also 0 to
 * VM_LAST_PIN (the caller's IOAPIC tells KVM its pins' vectors this way). Setting what is set already
 * changes nothing. valid false: the GSI is dropped from the table, its interrupts are lost.
 */
MUST_CHECK struct error *irq_routes_set(struct irq_routes *routes, u32 gsi, const struct irq_message *message);

/* Hands the table to KVM if it changed. */
MUST_CHECK struct error *irq_routes_commit(struct irq_routes *routes);

#endif
