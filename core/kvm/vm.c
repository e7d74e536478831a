// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/vm.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"

/* What 8 bits of APIC id can name; 255 means all. */
enum { APIC_ID_MAX_8BIT = 254 };

static struct error *apic_ids_check(const struct kvm *kvm, enum vm_irqchip irqchip, u32 max_apic_id)
{
	int limit = kvm_capability(kvm, KVM_CAP_MAX_VCPU_ID);

	if (limit && max_apic_id >= (u32)limit)
		return error_with_hint(error_create(ERROR_UNSUPPORTED,
						    "APIC id %u is asked for, this KVM's are below %d", max_apic_id,
						    limit),
				       "use a topology with fewer CPUs");
	if (max_apic_id <= APIC_ID_MAX_8BIT)
		return NULL;
	if (irqchip == VM_IRQCHIP_KERNEL)
		return error_create(ERROR_INVALID, "APIC id %u does not fit the in-kernel IOAPIC's 8 bits",
				    max_apic_id);
	if (irqchip == VM_IRQCHIP_SPLIT && !kvm_capability(kvm, KVM_CAP_X2APIC_API))
		return error_with_hint(error_create(ERROR_UNSUPPORTED, "this KVM has no 32-bit APIC ids"),
				       "use a topology whose APIC ids stay below 255");
	return NULL;
}

static struct error *set_memory(struct vm *vm, const struct guest_memory *memory)
{
	for (u32 i = 0; i < memory->region_count; i++) {
		const struct guest_region *r = &memory->regions[i];
		struct error *err = vm_set_slot(vm, i, r->gpa, r->size, r->hva, 0);

		if (err)
			return err;
		vm->slots = i + 1;
	}
	return NULL;
}

static struct error *set_private_pages(const struct vm *vm)
{
	u64 identity_map = VM_PRIVATE_START;
	struct error *err;

	err = KVM_IOCTL(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "real mode's page table");
	if (err)
		return err;
	return KVM_IOCTL(vm->fd, KVM_SET_TSS_ADDR, VM_PRIVATE_START + 0x1000, "real mode's TSS");
}

static struct error *enable_cap(const struct vm *vm, u32 cap, u64 arg, const char *purpose)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { arg } };

	return KVM_IOCTL(vm->fd, KVM_ENABLE_CAP, &enable, purpose);
}

/*
 * A vCPU's state is then read as it is: a pending exception without what it would write to CR2 or DR6 being written,
 * and a triple fault that has not become an exit. KVMs from before 4.20 and 6.0 have less to tell.
 */
static void ask_for_all_events(const struct vm *vm)
{
	error_destroy(enable_cap(vm, KVM_CAP_EXCEPTION_PAYLOAD, 1, "pending exceptions"));
	error_destroy(enable_cap(vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1, "pending triple faults"));
}

static struct error *create_split_irqchip(const struct vm *vm)
{
	struct error *err = enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, VM_IOAPIC_PINS, "split irqchip");

	if (err)
		return error_with_hint(err, "ids above 254 need a KVM with a split irqchip (Linux 4.7 or later)");
	/*
	 * Without the quirk's end, id 255 in an MSI is a broadcast even to x2APICs, and CPU 255 cannot be
	 * reached.
	 */
	return enable_cap(vm, KVM_CAP_X2APIC_API,
			  KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
			  "32-bit APIC ids");
}

static struct error *create_irqchip(struct vm *vm, enum vm_irqchip irqchip)
{
	vm->irqchip = irqchip;
	switch (irqchip) {
	case VM_IRQCHIP_NONE:
		return NULL;
	case VM_IRQCHIP_KERNEL:
		return KVM_IOCTL(vm->fd, KVM_CREATE_IRQCHIP, 0, "PIC, IOAPIC and local APICs");
	case VM_IRQCHIP_SPLIT:
		return create_split_irqchip(vm);
	}
	return error_create(ERROR_INVALID, "no such irqchip: %d", (int)irqchip);
}

struct error *vm_init(struct vm *vm, const struct kvm *kvm, const struct guest_memory *memory,
		      enum vm_irqchip irqchip, u32 max_apic_id)
{
	struct vm made CLEANUP(vm_deinit) = { .fd = -1, .run_size = kvm->run_size };
	struct error *err;

	*vm = (struct vm){ .fd = -1 };
	err = apic_ids_check(kvm, irqchip, max_apic_id);
	if (err)
		return err;
	err = KVM_IOCTL_RET(kvm->fd, KVM_CREATE_VM, 0, "a new machine", &made.fd);
	if (err)
		return err;
	// A slot set after the irqchip has to wait for it: 6 ms instead of less than one.
	err = set_memory(&made, memory);
	if (err)
		return err;
	err = set_private_pages(&made);
	if (err)
		return err;
	err = create_irqchip(&made, irqchip);
	if (err)
		return err;
	ask_for_all_events(&made);
	*vm = made;
	made.fd = -1;
	return NULL;
}

void vm_deinit(struct vm *vm)
{
	if (vm->fd >= 0)
		close(vm->fd);
	vm->fd = -1;
}

struct error *vm_set_slot(const struct vm *vm, u32 slot, u64 gpa, u64 size, void *hva, u32 flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};
	struct error *err = KVM_IOCTL(vm->fd, KVM_SET_USER_MEMORY_REGION, &region, "memory slot");

	return error_with_context(err, "slot %u, %llu KiB at 0x%llx", slot, (unsigned long long)size >> 10,
				  (unsigned long long)gpa);
}

struct error *vm_reset_slots(const struct vm *vm, const struct guest_memory *memory)
{
	struct error *err = NULL;

	// All out before the first comes in: KVM forgets everything with each that goes.
	for (u32 i = 0; !err && i < vm->slots; i++)
		err = vm_set_slot(vm, i, memory->regions[i].gpa, 0, NULL, 0);
	for (u32 i = 0; !err && i < vm->slots; i++)
		err = vm_set_slot(vm, i, memory->regions[i].gpa, memory->regions[i].size, memory->regions[i].hva, 0);
	return err;
}

struct error *vm_set_irq_line(const struct vm *vm, u32 gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	return KVM_IOCTL(vm->fd, KVM_IRQ_LINE, &line, "interrupt line");
}

struct error *vm_signal_msi(const struct vm *vm, u64 address, u32 data, bool *delivered)
{
	struct kvm_msi msi = {
		.address_lo = (u32)address,
		.address_hi = (u32)(address >> 32),
		.data = data,
	};
	int count = 0;
	struct error *err = KVM_IOCTL_RET(vm->fd, KVM_SIGNAL_MSI, &msi, "message-signalled interrupt", &count);

	if (err)
		return err;
	if (delivered)
		*delivered = count > 0;
	return NULL;
}

static struct error *irqfd(const struct vm *vm, u32 gsi, int eventfd, int resample_fd, u32 flags)
{
	struct kvm_irqfd irqfd = { .fd = (u32)eventfd, .gsi = gsi, .flags = flags };

	if (resample_fd >= 0) {
		irqfd.flags |= KVM_IRQFD_FLAG_RESAMPLE;
		irqfd.resamplefd = (u32)resample_fd;
	}
	return error_with_context(KVM_IOCTL(vm->fd, KVM_IRQFD, &irqfd, "interrupt from an eventfd"), "GSI %u",
				  gsi);
}

struct error *vm_irqfd_add(const struct vm *vm, u32 gsi, int eventfd, int resample_fd)
{
	return irqfd(vm, gsi, eventfd, resample_fd, 0);
}

struct error *vm_irqfd_remove(const struct vm *vm, u32 gsi, int eventfd)
{
	return irqfd(vm, gsi, eventfd, -1, KVM_IRQFD_FLAG_DEASSIGN);
}

static struct error *ioeventfd(const struct vm *vm, enum vm_space space, u64 address, u32 size, int eventfd,
			       u32 flags)
{
	struct kvm_ioeventfd ioeventfd = {
		.addr = address,
		.len = size,
		.fd = eventfd,
		.flags = flags | (space == VM_SPACE_PORT ? KVM_IOEVENTFD_FLAG_PIO : 0),
	};

	return error_with_context(KVM_IOCTL(vm->fd, KVM_IOEVENTFD, &ioeventfd, "doorbell"), "%s 0x%llx",
				  space == VM_SPACE_PORT ? "port" : "address", (unsigned long long)address);
}

struct error *vm_ioeventfd_add(const struct vm *vm, enum vm_space space, u64 address, u32 size, int eventfd)
{
	return ioeventfd(vm, space, address, size, eventfd, 0);
}

struct error *vm_ioeventfd_remove(const struct vm *vm, enum vm_space space, u64 address, u32 size, int eventfd)
{
	return ioeventfd(vm, space, address, size, eventfd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

struct error *vm_get_clock(const struct vm *vm, struct kvm_clock_data *ret)
{
	*ret = (struct kvm_clock_data){ 0 };
	return KVM_IOCTL(vm->fd, KVM_GET_CLOCK, ret, "the guest's clock");
}

struct error *vm_set_clock(const struct vm *vm, u64 ns)
{
	struct kvm_clock_data clock = { .clock = ns };

	return KVM_IOCTL(vm->fd, KVM_SET_CLOCK, &clock, "the guest's clock");
}
