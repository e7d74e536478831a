// SPDX-License-Identifier: GPL-2.0-or-later
/* A vCPU is given something of its own in each kind of state; a vCPU of another machine must then have it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "core/vcpu_rig.h"

enum {
	OTHER_VECTOR = 0x51,
	TIMER_VECTOR = 0x40,
	MSI_ADDRESS = 0xfee00000,
};

static const enum vm_irqchip irqchips[] = { VM_IRQCHIP_NONE, VM_IRQCHIP_KERNEL, VM_IRQCHIP_SPLIT };

#define GET(vcpu, name, ret) assert_no_error(KVM_IOCTL((vcpu)->fd, KVM_GET_##name, ret, "test"))
#define SET(vcpu, name, value) assert_no_error(KVM_IOCTL((vcpu)->fd, KVM_SET_##name, value, "test"))

static bool has(const struct rig *r, u32 cap)
{
	return kvm_capability(&r->f.kvm, cap) > 0;
}

#define SKIP_UNLESS(r, condition, why)                                       \
	do {                                                                 \
		if (!(condition)) {                                          \
			print_message("skipped: this KVM has no %s\n", why); \
			rig_deinit(r);                                       \
			skip();                                              \
		}                                                            \
	} while (0)

static void a_vcpu_that_has_never_run_is_moved(void **state)
{
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(irqchips); i++)
		for (int second = 0; second < 2; second++) {
			rig_init(&a, irqchips[i]);
			move_vcpu(&a, second, irqchips[i], &b);
			rig_deinit(&a);
			rig_deinit(&b);
		}
}

static void general_registers_are_moved(void **state)
{
	struct kvm_regs regs, found;
	struct rig a, b;
	u64 *word = (u64 *)&regs;

	SKIP_WITHOUT_KVM();
	rig_init(&a, VM_IRQCHIP_KERNEL);
	for (u32 i = 0; i < sizeof(regs) / 8; i++)
		word[i] = 0x0123456789abcdef * (i + 1);
	regs.rflags = 0xcd7; // every arithmetic flag, direction, overflow
	assert_no_error(vcpu_set_regs(&a.f.vcpu, &regs));
	move_vcpu(&a, false, VM_IRQCHIP_KERNEL, &b);
	assert_no_error(vcpu_get_regs(&b.f.vcpu, &found));
	assert_memory_equal(&found, &regs, sizeof(regs));
	// And for those who look at the run page without asking KVM.
	if (b.f.vcpu.run->kvm_valid_regs & KVM_SYNC_X86_REGS)
		assert_memory_equal(&b.f.vcpu.run->s.regs.regs, &regs, sizeof(regs));
	rig_deinit(&a);
	rig_deinit(&b);
}

static struct kvm_segment segment(u32 i, u8 type)
{
	return (struct kvm_segment){
		.base = 0x111000 * (i + 1),
		.limit = 0xfffff,
		.selector = 8 * (i + 1),
		.type = type,
		.present = 1,
		.s = 1,
		.db = 1,
		.g = 1,
	};
}

static void set_long_mode(const struct vcpu *vcpu)
{
	struct kvm_sregs sregs;

	assert_no_error(vcpu_get_sregs(vcpu, &sregs));
	sregs.cs = segment(0, 11);
	sregs.cs.db = 0;
	sregs.cs.l = 1;
	sregs.ds = segment(1, 3);
	sregs.es = segment(2, 3);
	sregs.fs = segment(3, 3);
	sregs.gs = segment(4, 3);
	sregs.ss = segment(5, 3);
	sregs.fs.base = 0x7fff12345000;
	sregs.gs.base = 0xffff888012345000;
	sregs.tr = (struct kvm_segment){ .base = 0x6000, .limit = 0x67, .selector = 0x38, .type = 11, .present = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = 0xfffffe0000001000, .limit = 0x7f };
	sregs.idt = (struct kvm_dtable){ .base = 0xfffffe0000000000, .limit = 0xfff };
	sregs.cr2 = 0xdeadbeef000;
	sregs.cr3 = 0x3000;
	sregs.cr4 = 0x6a0; // PAE, PGE, OSFXSR, OSXMMEXCPT
	sregs.cr8 = 5;
	sregs.cr0 = 0x80050033;
	sregs.efer = 0xd01; // NX, LMA, LME, SCE
	assert_no_error(vcpu_set_sregs(vcpu, &sregs));
}

static void special_registers_are_moved(void **state)
{
	struct kvm_sregs before, after;
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(irqchips); i++) {
		rig_init(&a, irqchips[i]);
		set_long_mode(&a.f.vcpu);
		assert_no_error(vcpu_get_sregs(&a.f.vcpu, &before));
		assert_int_equal(before.efer, 0xd01);
		assert_int_equal(before.gs.base, 0xffff888012345000);
		move_vcpu(&a, false, irqchips[i], &b);
		assert_no_error(vcpu_get_sregs(&b.f.vcpu, &after));
		assert_memory_equal(&before, &after, sizeof(before));
		// Where there is no local APIC KVM takes it from the run page at each run.
		assert_int_equal(b.f.vcpu.run->cr8, 5);
		rig_deinit(&a);
		rig_deinit(&b);
	}
}

/* x87, SSE and, where there is AVX, the upper halves. */
static void vector_registers_are_moved(void **state)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = 3 }, xcrs_found;
	struct kvm_xsave xsave, found;
	u8 *area = (u8 *)&xsave;
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	rig_init(&a, VM_IRQCHIP_KERNEL);
	SKIP_UNLESS(&a, has(&a, KVM_CAP_XCRS), "XSAVE");

	struct kvm_cpuid2 *cpuid;

	assert_no_error(kvm_supported_cpuid(&a.f.kvm, 0, &cpuid));
	xcrs.xcrs[0].value |= cpuid_find(cpuid, 0xd, 0)->eax & 4;
	free(cpuid);
	SET(&a.f.vcpu, XCRS, &xcrs);
	GET(&a.f.vcpu, XSAVE, &xsave);
	*(u16 *)area = 0x27f; // control word
	*(u32 *)(area + 24) = 0x9fc0; // MXCSR
	for (u32 i = 0; i < 8; i++)
		memset(area + 32 + i * 16, 0x10 + i, 10);
	for (u32 i = 0; i < 16; i++)
		memset(area + 160 + i * 16, 0x40 + i, 16);
	if (xcrs.xcrs[0].value & 4)
		for (u32 i = 0; i < 16; i++)
			memset(area + 576 + i * 16, 0x80 + i, 16);
	*(u64 *)(area + 512) = xcrs.xcrs[0].value; // what is in use
	SET(&a.f.vcpu, XSAVE, &xsave);
	GET(&a.f.vcpu, XSAVE, &xsave);
	assert_int_equal(area[160 + 15 * 16], 0x4f);
	move_vcpu(&a, false, VM_IRQCHIP_KERNEL, &b);
	GET(&b.f.vcpu, XSAVE, &found);
	assert_memory_equal(&found, &xsave, sizeof(xsave));
	GET(&b.f.vcpu, XCRS, &xcrs_found);
	assert_int_equal(xcrs_found.xcrs[0].value, xcrs.xcrs[0].value);
	rig_deinit(&a);
	rig_deinit(&b);
}

static void debug_registers_are_moved(void **state)
{
	struct kvm_debugregs before, after;
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	rig_init(&a, VM_IRQCHIP_KERNEL);
	SKIP_UNLESS(&a, has(&a, KVM_CAP_DEBUGREGS), "debug registers");
	GET(&a.f.vcpu, DEBUGREGS, &before);
	for (u32 i = 0; i < 4; i++)
		before.db[i] = 0x1000 * (i + 1);
	before.dr6 |= 0x4001;
	before.dr7 = 0x400 | 0xd0000 | 2;
	SET(&a.f.vcpu, DEBUGREGS, &before);
	move_vcpu(&a, false, VM_IRQCHIP_KERNEL, &b);
	GET(&b.f.vcpu, DEBUGREGS, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	rig_deinit(&a);
	rig_deinit(&b);
}

static void msrs_are_moved(void **state)
{
	static const struct kvm_msr_entry set[] = {
		{ .index = 0xc0000081, .data = 0x0023001000000000 }, // STAR
		{ .index = 0xc0000082, .data = 0xffffffff81a00080 }, // LSTAR
		{ .index = 0xc0000083, .data = 0xffffffff81a01000 }, // CSTAR
		{ .index = 0xc0000084, .data = 0x257fd5 }, // FMASK
		{ .index = 0xc0000102, .data = 0xffff88807fc00000 }, // KERNEL_GS_BASE
		{ .index = 0x174, .data = 0x10 }, // SYSENTER
		{ .index = 0x175, .data = 0xfe003000 }, // of which AMD's have 32 bits
		{ .index = 0x176, .data = 0x81a02000 },
		{ .index = 0x277, .data = 0x0407050600070106 }, // PAT
		{ .index = 0x2ff, .data = 0xc06 }, // MTRRs: default type, one variable, one fixed
		{ .index = 0x200, .data = 0x80000000 },
		{ .index = 0x201, .data = 0x80000800 },
		{ .index = 0x26f, .data = 0x0505050505050505 },
		{ .index = 0x4b564d01, .data = 0x8001 }, // kvmclock
		{ .index = 0x4b564d04, .data = 0x9001 }, // EOI without an exit
	};
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	rig_init(&a, VM_IRQCHIP_KERNEL);
	assert_no_error(vcpu_set_msrs(&a.f.vcpu, set, ARRAY_SIZE(set)));
	move_vcpu(&a, false, VM_IRQCHIP_KERNEL, &b);
	for (u32 i = 0; i < ARRAY_SIZE(set); i++) {
		struct kvm_msr_entry found = { .index = set[i].index };

		assert_no_error(vcpu_get_msrs(&b.f.vcpu, &found, 1));
		assert_int_equal(found.data, set[i].data);
	}
	rig_deinit(&a);
	rig_deinit(&b);
}

static void clocks_are_not_among_the_msrs(void **state)
{
	struct msr_list list;
	struct kvm kvm;
	bool star = false, kvmclock = false;

	SKIP_WITHOUT_KVM();
	assert_no_error(kvm_open(&kvm, KVM_DEVICE));
	assert_no_error(msr_list_init(&list, &kvm));
	assert_true(list.count > 20);
	for (u32 i = 0; i < list.count; i++) {
		assert_int_not_equal(list.index[i], 0x10);
		assert_int_not_equal(list.index[i], 0x6e0);
		star |= list.index[i] == 0xc0000081;
		kvmclock |= list.index[i] == 0x4b564d01;
		for (u32 j = 0; j < i; j++)
			assert_int_not_equal(list.index[i], list.index[j]);
	}
	assert_true(star);
	assert_true(kvmclock);
	msr_list_deinit(&list);
	assert_int_equal(list.count, 0);
	kvm_close(&kvm);
}

static void the_local_apic_is_moved_with_what_waits_in_it(void **state)
{
	struct kvm_lapic_state lapic;
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	for (u32 i = 1; i < ARRAY_SIZE(irqchips); i++) {
		rig_init(&a, irqchips[i]);
		assert_no_error(vcpu_get_lapic(&a.f.vcpu, &lapic));
		lapic_put(&lapic, LAPIC_SPURIOUS, 0x1ff);
		lapic_put(&lapic, LAPIC_TPR, 0x20);
		lapic_put(&lapic, LAPIC_TIMER, TIMER_VECTOR | 1 << 17); // periodic
		lapic_put(&lapic, LAPIC_TIMER_DIVIDE, 0xb); // by one
		lapic_put(&lapic, LAPIC_TIMER_INITIAL, 4000000000U);
		lapic_put(&lapic, LAPIC_TIMER_CURRENT, 4000000000U);
		assert_no_error(vcpu_set_lapic(&a.f.vcpu, &lapic));
		assert_no_error(vm_signal_msi(&a.f.vm, MSI_ADDRESS, OTHER_VECTOR, NULL));
		move_vcpu(&a, false, irqchips[i], &b);
		assert_true(is_requested(&b.f.vcpu, OTHER_VECTOR));
		assert_int_equal(lapic_get(&b.f.vcpu, LAPIC_TPR), 0x20);
		assert_int_equal(lapic_get(&b.f.vcpu, LAPIC_TIMER), TIMER_VECTOR | 1 << 17);
		assert_int_equal(lapic_get(&b.f.vcpu, LAPIC_TIMER_INITIAL), 4000000000U);
		assert_int_not_equal(lapic_get(&b.f.vcpu, LAPIC_TIMER_CURRENT), 0);
		rig_deinit(&a);
		rig_deinit(&b);
	}
}

static void an_x2apic_is_moved(void **state)
{
	struct kvm_sregs sregs;
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	for (u32 i = 1; i < ARRAY_SIZE(irqchips); i++) {
		rig_init(&a, irqchips[i]);
		assert_no_error(vcpu_get_sregs(&a.f.vcpu, &sregs));
		sregs.apic_base |= 1 << 10;
		assert_no_error(vcpu_set_sregs(&a.f.vcpu, &sregs));
		lapic_enable(&a.f.vcpu);
		assert_no_error(vm_signal_msi(&a.f.vm, MSI_ADDRESS, OTHER_VECTOR, NULL));
		move_vcpu(&a, false, irqchips[i], &b);
		assert_no_error(vcpu_get_sregs(&b.f.vcpu, &sregs));
		assert_true(sregs.apic_base & 1 << 10);
		assert_true(is_requested(&b.f.vcpu, OTHER_VECTOR));
		rig_deinit(&a);
		rig_deinit(&b);
	}
}

/* Changes the first vCPU's events, moves it, and gives what its new self has. */
static struct kvm_vcpu_events move_events(void (*change)(struct kvm_vcpu_events *events))
{
	struct kvm_vcpu_events events;
	struct rig a, b;

	rig_init(&a, VM_IRQCHIP_KERNEL);
	GET(&a.f.vcpu, VCPU_EVENTS, &events);
	change(&events);
	SET(&a.f.vcpu, VCPU_EVENTS, &events);
	move_vcpu(&a, false, VM_IRQCHIP_KERNEL, &b);
	GET(&b.f.vcpu, VCPU_EVENTS, &events);
	rig_deinit(&a);
	rig_deinit(&b);
	return events;
}

static void add_injected_exception(struct kvm_vcpu_events *e)
{
	e->exception.injected = 1;
	e->exception.nr = 13;
	e->exception.has_error_code = 1;
	e->exception.error_code = 0x5a;
}

static void add_nmi(struct kvm_vcpu_events *e)
{
	e->nmi.pending = 1;
	e->nmi.masked = 1;
	e->flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
}

static void add_interrupt(struct kvm_vcpu_events *e)
{
	e->interrupt.injected = 1;
	e->interrupt.nr = OTHER_VECTOR;
}

static void add_shadow(struct kvm_vcpu_events *e)
{
	e->interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	e->flags |= KVM_VCPUEVENT_VALID_SHADOW;
}

static void what_was_about_to_happen_is_moved(void **state)
{
	struct kvm_vcpu_events e;

	SKIP_WITHOUT_KVM();
	e = move_events(add_injected_exception);
	assert_int_equal(e.exception.injected, 1);
	assert_int_equal(e.exception.nr, 13);
	assert_int_equal(e.exception.error_code, 0x5a);
	e = move_events(add_nmi);
	assert_int_equal(e.nmi.pending, 1);
	assert_int_equal(e.nmi.masked, 1);
	e = move_events(add_interrupt);
	assert_int_equal(e.interrupt.injected, 1);
	assert_int_equal(e.interrupt.nr, OTHER_VECTOR);
	e = move_events(add_shadow);
	assert_true(e.interrupt.shadow & KVM_X86_SHADOW_INT_STI); // AMD's does not tell it from MOV SS
}

static void add_pending_page_fault(struct kvm_vcpu_events *e)
{
	e->exception.pending = 1;
	e->exception.nr = 14;
	e->exception.has_error_code = 1;
	e->exception.error_code = 2;
	e->exception_has_payload = 1;
	e->exception_payload = 0x123456000;
	e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
}

static void add_triple_fault(struct kvm_vcpu_events *e)
{
	e->triple_fault.pending = 1;
	e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
}

/* Its CR2 is not written yet: that belongs to its delivery. */
static void a_pending_exception_keeps_its_payload(void **state)
{
	struct kvm_vcpu_events e;
	struct rig r;

	SKIP_WITHOUT_KVM();
	rig_init(&r, VM_IRQCHIP_KERNEL);
	SKIP_UNLESS(&r, has(&r, KVM_CAP_EXCEPTION_PAYLOAD), "payload of exceptions");
	rig_deinit(&r);
	e = move_events(add_pending_page_fault);
	assert_int_equal(e.exception.pending, 1);
	assert_int_equal(e.exception.nr, 14);
	assert_int_equal(e.exception.error_code, 2);
	assert_int_equal(e.exception_has_payload, 1);
	assert_int_equal(e.exception_payload, 0x123456000);
}

static void a_triple_fault_is_moved(void **state)
{
	struct rig r;

	SKIP_WITHOUT_KVM();
	rig_init(&r, VM_IRQCHIP_KERNEL);
	SKIP_UNLESS(&r, has(&r, KVM_CAP_X86_TRIPLE_FAULT_EVENT), "triple fault to be read");
	rig_deinit(&r);
	assert_int_equal(move_events(add_triple_fault).triple_fault.pending, 1);
}

/* Loading replaces all that was pending there, also what the saved vCPU does not have. */
static void what_was_about_to_happen_before_is_forgotten(void **state)
{
	static void (*const changes[])(struct kvm_vcpu_events *) = { add_injected_exception, add_nmi, add_interrupt,
								     add_shadow, add_triple_fault };
	struct kvm_vcpu_events events;
	struct rig r;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(changes); i++) {
		rig_init(&r, VM_IRQCHIP_KERNEL);
		if (changes[i] == add_triple_fault)
			SKIP_UNLESS(&r, has(&r, KVM_CAP_X86_TRIPLE_FAULT_EVENT), "triple fault to be read");
		lapic_enable(&r.f.vcpu);

		struct buf quiet = rig_save(&r, &r.f.vcpu);

		GET(&r.f.vcpu, VCPU_EVENTS, &events);
		changes[i](&events);
		SET(&r.f.vcpu, VCPU_EVENTS, &events);
		assert_no_error(vm_signal_msi(&r.f.vm, MSI_ADDRESS, OTHER_VECTOR, NULL));
		assert_true(is_requested(&r.f.vcpu, OTHER_VECTOR));
		rig_load(&r.f.vcpu, &quiet);

		struct buf after = rig_save(&r, &r.f.vcpu);

		assert_same_state(&quiet, &after);
		assert_false(is_requested(&r.f.vcpu, OTHER_VECTOR));
		buf_deinit(&quiet);
		buf_deinit(&after);
		rig_deinit(&r);
	}
}

static void a_vcpu_that_halts_or_waits_does_so_there(void **state)
{
	static const u32 states[] = { KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED,
				      KVM_MP_STATE_INIT_RECEIVED };
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(states); i++)
		for (int second = 0; second < 2; second++) {
			struct kvm_mp_state set = { .mp_state = states[i] };
			u32 found;

			rig_init(&a, VM_IRQCHIP_KERNEL);
			SET(second ? &a.second : &a.f.vcpu, MP_STATE, &set);
			move_vcpu(&a, second, VM_IRQCHIP_KERNEL, &b);
			assert_no_error(vcpu_get_mp_state(second ? &b.second : &b.f.vcpu, &found));
			assert_int_equal(found, states[i]);
			rig_deinit(&a);
			rig_deinit(&b);
		}
}

/* An INIT or SIPI that has come in and that the vCPU has not seen yet is no part of what is loaded. */
static void an_init_that_was_on_its_way_is_forgotten(void **state)
{
	static const u32 states[] = { KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED };
	struct rig r;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(states); i++) {
		struct kvm_mp_state set = { .mp_state = states[i] };

		rig_init(&r, VM_IRQCHIP_KERNEL);
		lapic_enable(&r.f.vcpu); // KVM then looks for everybody's
		SET(&r.second, MP_STATE, &set);

		struct buf before = rig_save(&r, &r.second);
		bool init, sipi;

		// To APIC id 1: INIT, then SIPI with vector 8.
		assert_no_error(vm_signal_msi(&r.f.vm, MSI_ADDRESS | 1 << 12, 0x4500, &init));
		assert_no_error(vm_signal_msi(&r.f.vm, MSI_ADDRESS | 1 << 12, 0x4608, &sipi));
		assert_true(init && sipi);
		rig_load(&r.second, &before);

		struct buf after = rig_save(&r, &r.second);

		assert_same_state(&before, &after);
		buf_deinit(&before);
		buf_deinit(&after);
		rig_deinit(&r);
	}
}

/* Not a guest of the guest yet, but on the way: SVM is on, and its interrupts are held back. */
static void nested_state_is_moved(void **state)
{
	struct kvm_nested_state nested = { .size = sizeof(nested) }, found = nested;
	struct kvm_sregs sregs;
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	rig_init(&a, VM_IRQCHIP_KERNEL);
	SKIP_UNLESS(&a, has(&a, KVM_CAP_NESTED_STATE), "nested state");
	GET(&a.f.vcpu, NESTED_STATE, &nested);
	SKIP_UNLESS(&a, nested.format == KVM_STATE_NESTED_FORMAT_SVM, "SVM");
	set_long_mode(&a.f.vcpu);
	assert_no_error(vcpu_get_sregs(&a.f.vcpu, &sregs));
	sregs.efer |= 1 << 12; // SVME
	assert_no_error(vcpu_set_sregs(&a.f.vcpu, &sregs));
	nested.flags = 0; // GIF clear
	SET(&a.f.vcpu, NESTED_STATE, &nested);
	move_vcpu(&a, false, VM_IRQCHIP_KERNEL, &b);
	GET(&b.f.vcpu, NESTED_STATE, &found);
	assert_int_equal(found.flags, 0);
	rig_deinit(&a);
	rig_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vcpu_that_has_never_run_is_moved),
		cmocka_unit_test(general_registers_are_moved),
		cmocka_unit_test(special_registers_are_moved),
		cmocka_unit_test(vector_registers_are_moved),
		cmocka_unit_test(debug_registers_are_moved),
		cmocka_unit_test(msrs_are_moved),
		cmocka_unit_test(clocks_are_not_among_the_msrs),
		cmocka_unit_test(the_local_apic_is_moved_with_what_waits_in_it),
		cmocka_unit_test(an_x2apic_is_moved),
		cmocka_unit_test(what_was_about_to_happen_is_moved),
		cmocka_unit_test(a_pending_exception_keeps_its_payload),
		cmocka_unit_test(a_triple_fault_is_moved),
		cmocka_unit_test(what_was_about_to_happen_before_is_forgotten),
		cmocka_unit_test(a_vcpu_that_halts_or_waits_does_so_there),
		cmocka_unit_test(an_init_that_was_on_its_way_is_forgotten),
		cmocka_unit_test(nested_state_is_moved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
