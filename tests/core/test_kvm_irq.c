// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "core/kvm_fixture.h"
#include "kvm/irq.h"

enum {
	LAPIC_SPURIOUS = 0xf0,
	LAPIC_IRR = 0x200,
};

#define MSI_ADDRESS 0xfee00000ULL /* to APIC id 0 */

static const u8 spin[] = { 0xeb, 0xfe };

struct routed {
	struct fixture f;
	struct irq_routes routes;
};

static void routed_init(struct routed *r, enum vm_irqchip irqchip)
{
	struct kvm_lapic_state lapic = { 0 };

	fixture_init(&r->f, irqchip, spin, sizeof(spin));
	assert_no_error(irq_routes_init(&r->routes, &r->f.vm));
	// Switched off in software, a local APIC takes no interrupt.
	assert_no_error(KVM_IOCTL(r->f.vcpu.fd, KVM_GET_LAPIC, &lapic, "test"));
	lapic.regs[LAPIC_SPURIOUS + 1] |= 1;
	assert_no_error(KVM_IOCTL(r->f.vcpu.fd, KVM_SET_LAPIC, &lapic, "test"));
}

static void routed_deinit(struct routed *r)
{
	irq_routes_deinit(&r->routes);
	fixture_deinit(&r->f);
}

/* Is the vector waiting at the local APIC? The vCPU has not run, so nothing takes it away. */
static bool vector_is_pending(const struct routed *r, u32 vector)
{
	struct kvm_lapic_state lapic = { 0 };

	assert_no_error(KVM_IOCTL(r->f.vcpu.fd, KVM_GET_LAPIC, &lapic, "test"));
	return lapic.regs[LAPIC_IRR + vector / 32 * 0x10 + vector % 32 / 8] >> vector % 8 & 1;
}

static bool ioapic_pin_is_high(const struct routed *r, u32 pin)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	assert_no_error(KVM_IOCTL(r->f.vm.fd, KVM_GET_IRQCHIP, &chip, "test"));
	return chip.chip.ioapic.irr >> pin & 1;
}

static void a_message_goes_to_its_vector(void **state)
{
	struct routed r;
	bool delivered = false;

	SKIP_WITHOUT_KVM();
	routed_init(&r, VM_IRQCHIP_KERNEL);
	assert_false(vector_is_pending(&r, 0x41));
	assert_no_error(vm_signal_msi(&r.f.vm, MSI_ADDRESS, 0x41, &delivered));
	assert_true(delivered);
	assert_true(vector_is_pending(&r, 0x41));
	assert_false(vector_is_pending(&r, 0x42));
	routed_deinit(&r);
}

static void signal_eventfd(int efd)
{
	u64 one = 1;

	assert_int_equal(write(efd, &one, sizeof(one)), sizeof(one));
}

static void an_eventfd_raises_what_its_gsi_is_routed_to(void **state)
{
	int efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct routed r;
	u32 gsi;

	SKIP_WITHOUT_KVM();
	routed_init(&r, VM_IRQCHIP_KERNEL);
	assert_no_error(irq_routes_allocate(&r.routes, 3, &gsi));
	assert_int_equal(gsi, VM_IOAPIC_PINS);
	for (u32 i = 0; i < 3; i++) {
		struct irq_message m = { .address = MSI_ADDRESS, .data = 0x50 + i, .valid = true };

		assert_no_error(irq_routes_set(&r.routes, gsi + i, &m));
	}
	assert_no_error(irq_routes_commit(&r.routes));
	assert_no_error(vm_irqfd_add(&r.f.vm, gsi + 1, efd, -1));
	signal_eventfd(efd);
	assert_true(vector_is_pending(&r, 0x51));
	assert_false(vector_is_pending(&r, 0x50));
	assert_false(vector_is_pending(&r, 0x52));

	// The guest moves the vector: the eventfd follows.
	assert_no_error(irq_routes_set(&r.routes, gsi + 1,
				       &(struct irq_message){ .address = MSI_ADDRESS, .data = 0x61, .valid = true }));
	assert_no_error(irq_routes_commit(&r.routes));
	signal_eventfd(efd);
	assert_true(vector_is_pending(&r, 0x61));
	assert_no_error(vm_irqfd_remove(&r.f.vm, gsi + 1, efd));
	routed_deinit(&r);
	close(efd);
}

/* KVM_SET_GSI_ROUTING replaces the whole table: a device's MSI must not cut off the serial port. */
static void pins_survive_the_messages(void **state)
{
	struct routed r;
	u32 gsi;

	SKIP_WITHOUT_KVM();
	routed_init(&r, VM_IRQCHIP_KERNEL);
	assert_no_error(irq_routes_allocate(&r.routes, 1, &gsi));
	assert_no_error(irq_routes_set(&r.routes, gsi,
				       &(struct irq_message){ .address = MSI_ADDRESS, .data = 0x41, .valid = true }));
	assert_no_error(irq_routes_commit(&r.routes));
	for (u32 line = 1; line < VM_IOAPIC_PINS; line++) {
		if (line == 2)
			continue;
		assert_false(ioapic_pin_is_high(&r, line));
		assert_no_error(vm_set_irq_line(&r.f.vm, line, true));
		assert_true(ioapic_pin_is_high(&r, line));
	}
	// ISA's timer is wired to pin 2.
	assert_no_error(vm_set_irq_line(&r.f.vm, 0, true));
	assert_true(ioapic_pin_is_high(&r, 2));
	assert_false(ioapic_pin_is_high(&r, 0));
	routed_deinit(&r);
}

static void a_message_that_is_taken_back_is_no_longer_delivered(void **state)
{
	int efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct irq_message m = { .address = MSI_ADDRESS, .data = 0x41, .valid = true };
	struct routed r;
	u32 gsi;

	SKIP_WITHOUT_KVM();
	routed_init(&r, VM_IRQCHIP_KERNEL);
	assert_no_error(irq_routes_allocate(&r.routes, 1, &gsi));
	assert_no_error(irq_routes_set(&r.routes, gsi, &m));
	assert_no_error(irq_routes_commit(&r.routes));
	assert_no_error(vm_irqfd_add(&r.f.vm, gsi, efd, -1));
	m.valid = false;
	assert_no_error(irq_routes_set(&r.routes, gsi, &m));
	assert_no_error(irq_routes_commit(&r.routes));
	signal_eventfd(efd);
	assert_false(vector_is_pending(&r, 0x41));
	routed_deinit(&r);
	close(efd);
}

static void nothing_changed_is_not_handed_over(void **state)
{
	struct irq_message m = { .address = MSI_ADDRESS, .data = 0x41, .valid = true };
	struct routed r;
	u32 gsi;

	SKIP_WITHOUT_KVM();
	routed_init(&r, VM_IRQCHIP_KERNEL);
	assert_no_error(irq_routes_allocate(&r.routes, 1, &gsi));
	assert_false(r.routes.dirty);
	assert_no_error(irq_routes_set(&r.routes, gsi, &m));
	assert_true(r.routes.dirty);
	assert_no_error(irq_routes_commit(&r.routes));
	assert_no_error(irq_routes_set(&r.routes, gsi, &m));
	assert_false(r.routes.dirty);
	routed_deinit(&r);
}

static void gsis_that_are_nobodys_are_refused(void **state)
{
	struct irq_message m = { .address = MSI_ADDRESS, .data = 0x41, .valid = true };
	struct routed r;
	u32 gsi;

	SKIP_WITHOUT_KVM();
	routed_init(&r, VM_IRQCHIP_KERNEL);
	assert_error(irq_routes_set(&r.routes, 4, &m), ERROR_INVALID, "GSI 4");
	assert_error(irq_routes_set(&r.routes, VM_IOAPIC_PINS, &m), ERROR_INVALID, "GSI 24");
	assert_error(irq_routes_allocate(&r.routes, 100000, &gsi), ERROR_INVALID, "100000");
	assert_error(irq_routes_allocate(&r.routes, UINT32_MAX, &gsi), ERROR_INVALID, "left");
	assert_no_error(irq_routes_allocate(&r.routes, 900, &gsi));
	assert_no_error(irq_routes_set(&r.routes, gsi + 899, &m));
	assert_no_error(irq_routes_commit(&r.routes));
	routed_deinit(&r);
}

static void with_a_split_irqchip_pins_are_messages_too(void **state)
{
	int efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct routed r;

	SKIP_WITHOUT_KVM();
	routed_init(&r, VM_IRQCHIP_SPLIT);
	assert_no_error(irq_routes_set(&r.routes, 4,
				       &(struct irq_message){ .address = MSI_ADDRESS, .data = 0x34, .valid = true }));
	assert_no_error(irq_routes_commit(&r.routes));
	assert_no_error(vm_irqfd_add(&r.f.vm, 4, efd, -1));
	signal_eventfd(efd);
	assert_true(vector_is_pending(&r, 0x34));
	routed_deinit(&r);
	close(efd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_goes_to_its_vector),
		cmocka_unit_test(an_eventfd_raises_what_its_gsi_is_routed_to),
		cmocka_unit_test(pins_survive_the_messages),
		cmocka_unit_test(a_message_that_is_taken_back_is_no_longer_delivered),
		cmocka_unit_test(nothing_changed_is_not_handed_over),
		cmocka_unit_test(gsis_that_are_nobodys_are_refused),
		cmocka_unit_test(with_a_split_irqchip_pins_are_messages_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
