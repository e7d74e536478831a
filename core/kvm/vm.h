/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtual machine of KVM: its memory slots, its interrupt controllers, lines, eventfds, clock.
 * Depends on base, kvm.h, memory.h. Made in the order that costs least (slots before the irqchip).
 * Its functions may be called from any thread; it holds no lock, KVM has its own.
 */
#ifndef KVM_VM_H
#define KVM_VM_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/types.h"
#include "kvm/kvm.h"
#include "kvm/memory.h"

enum {
	VM_IOAPIC_PINS = 24,
	/* GSIs up to here (inclusive) belong to the PIC and the IOAPIC; MSIs get those above. */
	VM_LAST_PIN = VM_IOAPIC_PINS - 1,
};

/*
 * Guest-physical pages below 4 GiB that Intel's KVM keeps for itself (real-mode TSS and identity map):
 * neither memory nor a device may lie there.
 */
#define VM_PRIVATE_START 0xfffbc000ULL
#define VM_PRIVATE_SIZE 0x4000ULL

enum vm_irqchip {
	VM_IRQCHIP_NONE, /* none at all: micro guests */
	VM_IRQCHIP_KERNEL, /* PIC, IOAPIC and local APICs in the kernel: APIC ids up to 254 */
	/*
	 * Local APICs in the kernel, with 32-bit x2APIC ids; PIC and IOAPIC are the caller's. An EOI of a
	 * level interrupt arrives as KVM_EXIT_IOAPIC_EOI for vectors that a route of GSI 0 to
	 * VM_LAST_PIN carries (irq.h).
	 */
	VM_IRQCHIP_SPLIT,
};

struct vm {
	int fd;
	size_t run_size;
	u32 slots; /* slots 0 to slots - 1 hold the guest's memory */
	enum vm_irqchip irqchip;
};

/*
 * Creates the machine with memory's regions as its slots; they must outlive it. max_apic_id: the
 * highest that a vCPU will have; ERROR_UNSUPPORTED when this KVM (or VM_IRQCHIP_KERNEL, above 254)
 * cannot have it.
 */
MUST_CHECK struct error *vm_init(struct vm *vm, const struct kvm *kvm, const struct guest_memory *memory,
				 enum vm_irqchip irqchip, u32 max_apic_id);
void vm_deinit(struct vm *vm);

/* Adds, changes or (size 0) removes a slot; flags as KVM_MEM_*. Those below vm->slots are memory's. */
MUST_CHECK struct error *vm_set_slot(const struct vm *vm, u32 slot, u64 gpa, u64 size, void *hva, u32 flags);

/*
 * Takes memory's slots out and puts them in again, so that KVM forgets what it derived from their contents. While
 * no vCPU runs.
 */
MUST_CHECK struct error *vm_reset_slots(const struct vm *vm, const struct guest_memory *memory);

/* Level of a PIC or IOAPIC line (in-kernel irqchip only). */
MUST_CHECK struct error *vm_set_irq_line(const struct vm *vm, u32 gsi, bool level);

/* Delivers one MSI now, no route needed. delivered (may be NULL): false when the guest blocked it. */
MUST_CHECK struct error *vm_signal_msi(const struct vm *vm, u64 address, u32 data, bool *delivered);

/*
 * eventfd's signals raise gsi (an edge). With resample_fd >= 0 the line is level: it is raised by
 * eventfd, and lowered and signalled on resample_fd at the guest's EOI.
 */
MUST_CHECK struct error *vm_irqfd_add(const struct vm *vm, u32 gsi, int eventfd, int resample_fd);
MUST_CHECK struct error *vm_irqfd_remove(const struct vm *vm, u32 gsi, int eventfd);

enum vm_space {
	VM_SPACE_MMIO,
	VM_SPACE_PORT,
};

/* A write of size bytes (1, 2, 4, 8; 0: any, MMIO only) at address signals eventfd, without an exit. */
MUST_CHECK struct error *vm_ioeventfd_add(const struct vm *vm, enum vm_space space, u64 address, u32 size,
					  int eventfd);
MUST_CHECK struct error *vm_ioeventfd_remove(const struct vm *vm, enum vm_space space, u64 address,
					     u32 size, int eventfd);

/* KVM_GET_CLOCK: nanoseconds in .clock; .flags has KVM_CLOCK_TSC_STABLE where there is a master clock. */
MUST_CHECK struct error *vm_get_clock(const struct vm *vm, struct kvm_clock_data *ret);
/* KVM_SET_CLOCK with flags 0: the guest's clock goes on from ns, whatever the host's real time did. */
MUST_CHECK struct error *vm_set_clock(const struct vm *vm, u64 ns);

#endif
