/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An IOAPIC in user space, for machines with KVM_CAP_SPLIT_IRQCHIP (APIC ids above 254).
 * Depends on device/bus.h and device/msi.h. 24 pins; pin n is GSI n; version 0x20.
 * Delivers by MSI messages; a level interrupt is asserted again at EOI for as long as its line is high.
 */
#ifndef DEVICE_IOAPIC_H
#define DEVICE_IOAPIC_H

#include "device/bus.h"
#include "device/msi.h"

enum {
	IOAPIC_PINS = 24,
	IOAPIC_SIZE = 0x1000, /* bytes of MMIO, at 0xfec00000 */
};

/*
 * Called under the IOAPIC's lock, from any thread: do not call the IOAPIC from them. Addresses are in the
 * guest's format: msi_kvm_address() before they go to KVM.
 */
struct ioapic_sink_ops {
	/* Deliver one interrupt now (KVM_SIGNAL_MSI). */
	void (*deliver)(void *ctx, u64 address, u32 data);
	/*
	 * The guest changed a pin's entry. KVM learns from the pins' MSI routes (GSI = pin) for which vectors a
	 * KVM_EXIT_IOAPIC_EOI is due, masked or not, so the machine puts it in KVM_SET_GSI_ROUTING. It comes
	 * before any delivery by the new entry.
	 */
	void (*route)(void *ctx, u32 pin, u64 address, u32 data, bool masked);
};

struct ioapic_sink {
	const struct ioapic_sink_ops *ops;
	void *ctx;
};

struct ioapic {
	struct ioapic_sink sink;
	pthread_mutex_t lock;
	u8 id, select;
	u32 lines; /* bit n: pin n is asserted */
	u64 entries[IOAPIC_PINS]; /* redirection table as the guest reads it */
};

/* All pins masked, as after reset. */
MUST_CHECK struct error *ioapic_init(struct ioapic *ioapic, u8 id, struct ioapic_sink sink);
void ioapic_deinit(struct ioapic *ioapic);

/* Any thread. A pin that does not exist is ignored. */
void ioapic_set_level(struct ioapic *ioapic, u32 pin, bool level);
/* KVM_EXIT_IOAPIC_EOI: a CPU ended an interrupt of this vector. Any thread. */
void ioapic_eoi(struct ioapic *ioapic, u8 vector);

extern const struct device_ops ioapic_ops; /* on the MMIO bus, IOAPIC_SIZE long */
extern const struct device_state_ops ioapic_state_ops; /* load calls sink.route for every pin */

#endif
