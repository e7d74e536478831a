// SPDX-License-Identifier: GPL-2.0-or-later
/* What a single step does not leave to KVM: HLT, and an interrupt that is under way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/vcpu_rig.h"
#include "kvm/vcpu_step.h"

enum {
	VECTOR = 0x51,
	MSI_ADDRESS = 0xfee00000,
	LAPIC_IN_SERVICE = 0x100,
	FLAG_INTERRUPTS = 0x200,

	AT_STI = CODE_GPA,
	AT_HLT = AT_STI + 1,
	BEHIND_HLT = AT_HLT + 1,
	ON_INTERRUPT = 0x1100,
};

/* Tells 1 behind the HLT; the interrupt's handler tells 2. Real mode. */
static const u8 code[] = {
	0xfb, // sti
	0xf4, // hlt
	0xb0, 0x01, // mov $1, %al
	0xe6, 0x12, // out %al, $0x12
	0xeb, 0xfe, // jmp to itself
};
static const u8 handler[] = {
	0xb0, 0x02, // mov $2, %al
	0xe6, 0x12, // out %al, $0x12
	0xcf, // iretw
};

static void guest_init(struct fixture *f, enum vm_irqchip irqchip, u64 rip)
{
	fixture_init(f, irqchip, code, sizeof(code));
	memcpy(f->memory.base + ON_INTERRUPT, handler, sizeof(handler));
	*(u16 *)(f->memory.base + VECTOR * 4) = ON_INTERRUPT;
	if (irqchip != VM_IRQCHIP_NONE)
		lapic_enable(&f->vcpu);

	struct kvm_regs regs = { .rip = rip, .rsp = CODE_GPA, .rflags = 2 | FLAG_INTERRUPTS };

	assert_no_error(vcpu_set_regs(&f->vcpu, &regs));
}

static struct kvm_vcpu_events events_of(const struct vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	assert_no_error(vcpu_get_events(vcpu, &events));
	return events;
}

static u64 rip_of(const struct vcpu *vcpu)
{
	struct kvm_regs regs;

	assert_no_error(vcpu_get_regs(vcpu, &regs));
	return regs.rip;
}

static u32 mp_state_of(const struct vcpu *vcpu)
{
	u32 state;

	assert_no_error(vcpu_get_mp_state(vcpu, &state));
	return state;
}

static u8 told_next(struct vcpu *vcpu)
{
	enum vcpu_run_result result;

	assert_no_error(vcpu_run(vcpu, &result));
	assert_int_equal(result, VCPU_EXIT);
	assert_int_equal(vcpu->run->exit_reason, KVM_EXIT_IO);
	return ((u8 *)vcpu->run)[vcpu->run->io.data_offset];
}

static void assert_not_stepped(struct fixture *f, u64 rip)
{
	bool halted = true;

	assert_no_error(vcpu_step_halt(&f->vcpu, &f->memory, &halted));
	assert_false(halted);
	assert_int_equal(rip_of(&f->vcpu), rip);
	assert_int_equal(mp_state_of(&f->vcpu), KVM_MP_STATE_RUNNABLE);
}

static void a_step_over_hlt_halts_and_an_interrupt_wakes(void **state)
{
	bool halted;
	struct fixture f;

	SKIP_WITHOUT_KVM();
	guest_init(&f, VM_IRQCHIP_KERNEL, AT_HLT);

	struct kvm_vcpu_events shadowed = events_of(&f.vcpu);

	shadowed.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	shadowed.flags = KVM_VCPUEVENT_VALID_SHADOW;
	assert_no_error(vcpu_set_events(&f.vcpu, &shadowed));
	assert_no_error(vcpu_step_halt(&f.vcpu, &f.memory, &halted));
	assert_true(halted);
	assert_int_equal(rip_of(&f.vcpu), BEHIND_HLT);
	assert_int_equal(mp_state_of(&f.vcpu), KVM_MP_STATE_HALTED);
	assert_int_equal(events_of(&f.vcpu).interrupt.shadow, 0);
	assert_no_error(vm_signal_msi(&f.vm, MSI_ADDRESS, VECTOR, NULL));
	assert_int_equal(told_next(&f.vcpu), 2);
	assert_int_equal(told_next(&f.vcpu), 1);
	fixture_deinit(&f);
}

static void any_other_instruction_is_left_to_kvm(void **state)
{
	static const u64 rips[] = { AT_STI, BEHIND_HLT, FIXTURE_MEMORY + 0x1000 };
	struct fixture f;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(rips); i++) {
		guest_init(&f, VM_IRQCHIP_KERNEL, rips[i]);
		assert_not_stepped(&f, rips[i]);
		fixture_deinit(&f);
	}
}

/* It comes before the HLT. */
static void so_is_an_exception_under_way(void **state)
{
	struct fixture f;

	SKIP_WITHOUT_KVM();
	guest_init(&f, VM_IRQCHIP_KERNEL, AT_HLT);

	struct kvm_vcpu_events events = events_of(&f.vcpu);

	events.exception.injected = 1;
	events.exception.nr = 6;
	assert_no_error(vcpu_set_events(&f.vcpu, &events));
	assert_not_stepped(&f, AT_HLT);
	fixture_deinit(&f);
}

/* As KVM leaves it when a vCPU comes out just before the delivery. */
static void put_under_way(struct fixture *f, bool from_lapic)
{
	struct kvm_vcpu_events events = events_of(&f->vcpu);
	struct kvm_lapic_state lapic;

	events.interrupt.injected = 1;
	events.interrupt.nr = VECTOR;
	events.flags = 0;
	assert_no_error(vcpu_set_events(&f->vcpu, &events));
	if (!from_lapic)
		return;
	assert_no_error(vcpu_get_lapic(&f->vcpu, &lapic));
	lapic_put(&lapic, LAPIC_IN_SERVICE + VECTOR / 32 * 16, 1U << VECTOR % 32);
	assert_no_error(vcpu_set_lapic(&f->vcpu, &lapic));
}

static void an_interrupt_under_way_waits_in_its_apic_again(void **state)
{
	struct fixture f;

	SKIP_WITHOUT_KVM();
	guest_init(&f, VM_IRQCHIP_KERNEL, BEHIND_HLT);
	put_under_way(&f, true);
	assert_int_equal(events_of(&f.vcpu).interrupt.injected, 1);
	assert_no_error(vcpu_withhold_interrupt(&f.vcpu));
	assert_int_equal(events_of(&f.vcpu).interrupt.injected, 0);
	assert_int_equal(lapic_get(&f.vcpu, LAPIC_IN_SERVICE + VECTOR / 32 * 16), 0);
	assert_true(is_requested(&f.vcpu, VECTOR));
	assert_int_equal(told_next(&f.vcpu), 2);
	assert_int_equal(told_next(&f.vcpu), 1);
	fixture_deinit(&f);
}

/* The PIC has no memory of what it gave away; without a local APIC there is no place at all. */
static void one_of_the_pic_stays_under_way(void **state)
{
	static const enum vm_irqchip irqchips[] = { VM_IRQCHIP_KERNEL, VM_IRQCHIP_NONE };
	struct fixture f;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(irqchips); i++) {
		guest_init(&f, irqchips[i], BEHIND_HLT);
		put_under_way(&f, false);
		assert_no_error(vcpu_withhold_interrupt(&f.vcpu));
		assert_int_equal(events_of(&f.vcpu).interrupt.injected, 1);
		assert_int_equal(told_next(&f.vcpu), 2);
		fixture_deinit(&f);
	}
}

static void no_interrupt_is_no_change(void **state)
{
	struct rig r;

	SKIP_WITHOUT_KVM();
	rig_init(&r, VM_IRQCHIP_KERNEL);
	lapic_enable(&r.f.vcpu);

	struct buf before = rig_save(&r, &r.f.vcpu);

	assert_no_error(vcpu_withhold_interrupt(&r.f.vcpu));

	struct buf after = rig_save(&r, &r.f.vcpu);

	assert_same_state(&before, &after);
	buf_deinit(&before);
	buf_deinit(&after);
	rig_deinit(&r);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_step_over_hlt_halts_and_an_interrupt_wakes),
		cmocka_unit_test(any_other_instruction_is_left_to_kvm),
		cmocka_unit_test(so_is_an_exception_under_way),
		cmocka_unit_test(an_interrupt_under_way_waits_in_its_apic_again),
		cmocka_unit_test(one_of_the_pic_stays_under_way),
		cmocka_unit_test(no_interrupt_is_no_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
