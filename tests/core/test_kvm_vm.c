// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "core/kvm_fixture.h"
#include "kvm/probe.h"

/* mov dx, 0x1234; mov al, 7; out dx, al; mov dx, 0x4321; out dx, al; jmp to itself */
static const u8 two_outs[] = { 0xba, 0x34, 0x12, 0xb0, 0x07, 0xee, 0xba, 0x21, 0x43, 0xee, 0xeb, 0xfe };

static u8 run_to_out(struct fixture *f, u16 *port)
{
	struct kvm_run *run = f->vcpu.run;
	enum vcpu_run_result result;

	assert_no_error(vcpu_run(&f->vcpu, &result));
	assert_int_equal(result, VCPU_EXIT);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	*port = run->io.port;
	return *((u8 *)run + run->io.data_offset);
}

static void a_port_write_comes_out(void **state)
{
	struct fixture f;
	u16 port;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_KERNEL, two_outs, sizeof(two_outs));
	assert_int_equal(run_to_out(&f, &port), 7);
	assert_int_equal(port, 0x1234);
	assert_int_equal(run_to_out(&f, &port), 7);
	assert_int_equal(port, 0x4321);
	fixture_deinit(&f);
}

static void a_doorbell_swallows_the_exit_and_signals(void **state)
{
	int efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct fixture f;
	u64 count = 0;
	u16 port;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_KERNEL, two_outs, sizeof(two_outs));
	assert_no_error(vm_ioeventfd_add(&f.vm, VM_SPACE_PORT, 0x1234, 1, efd));
	run_to_out(&f, &port);
	assert_int_equal(port, 0x4321);
	assert_int_equal(read(efd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 1);
	assert_no_error(vm_ioeventfd_remove(&f.vm, VM_SPACE_PORT, 0x1234, 1, efd));
	assert_error(vm_ioeventfd_remove(&f.vm, VM_SPACE_PORT, 0x1234, 1, efd), ERROR_OS, "port 0x1234");
	fixture_deinit(&f);
	close(efd);
}

static void a_requested_exit_retires_the_instruction_and_stays_until_cleared(void **state)
{
	enum vcpu_run_result result;
	struct kvm_regs regs;
	struct fixture f;
	u16 port;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_KERNEL, two_outs, sizeof(two_outs));
	run_to_out(&f, &port);
	vcpu_request_exit(&f.vcpu);
	for (int i = 0; i < 2; i++) {
		assert_no_error(vcpu_run(&f.vcpu, &result));
		assert_int_equal(result, VCPU_INTERRUPTED);
		assert_no_error(vcpu_get_regs(&f.vcpu, &regs));
		assert_int_equal(regs.rip, CODE_GPA + 6); // behind the OUT
	}
	assert_true(vcpu_clear_exit(&f.vcpu));
	assert_false(vcpu_clear_exit(&f.vcpu));
	run_to_out(&f, &port);
	assert_int_equal(port, 0x4321);
	fixture_deinit(&f);
}

static void an_overlapping_slot_is_named(void **state)
{
	struct fixture f;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_NONE, two_outs, sizeof(two_outs));
	assert_int_equal(f.vm.slots, 1);
	assert_error(vm_set_slot(&f.vm, 5, 0x1000, 0x1000, f.memory.base, 0), ERROR_OS, "slot 5, 4 KiB at 0x1000");
	assert_no_error(vm_set_slot(&f.vm, 5, 0x10000000, 0x1000, f.memory.base, KVM_MEM_READONLY));
	assert_no_error(vm_set_slot(&f.vm, 5, 0x10000000, 0, NULL, 0));
	fixture_deinit(&f);
}

static void the_refused_msr_is_named(void **state)
{
	struct kvm_msr_entry msrs[] = {
		{ .index = 0xc0000082, .data = 0x1234 },
		{ .index = 0x0badbad0, .data = 1 },
		{ .index = 0xc0000084, .data = 2 },
	};
	struct fixture f;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_NONE, two_outs, sizeof(two_outs));
	assert_error(vcpu_set_msrs(&f.vcpu, msrs, 3), ERROR_UNSUPPORTED, "KVM_SET_MSRS: KVM refuses MSR 0xbadbad0");
	assert_error(vcpu_get_msrs(&f.vcpu, msrs, 3), ERROR_UNSUPPORTED, "KVM_GET_MSRS: KVM refuses MSR 0xbadbad0");
	assert_error(vcpu_get_msrs(&f.vcpu, msrs, VCPU_MSRS_MAX + 1), ERROR_INVALID, "256 MSRs");
	assert_no_error(vcpu_set_msrs(&f.vcpu, msrs, 1));

	struct kvm_msr_entry most[VCPU_MSRS_MAX];

	for (u32 i = 0; i < VCPU_MSRS_MAX; i++)
		most[i] = msrs[0];
	assert_no_error(vcpu_set_msrs(&f.vcpu, most, VCPU_MSRS_MAX));
	assert_no_error(vcpu_get_msrs(&f.vcpu, most, VCPU_MSRS_MAX));
	msrs[0].data = 0;
	assert_no_error(vcpu_get_msrs(&f.vcpu, msrs, 1));
	assert_int_equal(msrs[0].data, 0x1234);
	fixture_deinit(&f);
}

static void the_clock_goes_on_from_where_it_is_set(void **state)
{
	struct kvm_clock_data clock;
	struct fixture f;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_KERNEL, two_outs, sizeof(two_outs));
	assert_no_error(vm_set_clock(&f.vm, 1ULL << 50));
	assert_no_error(vm_get_clock(&f.vm, &clock));
	assert_true(clock.clock >= 1ULL << 50);
	assert_true(clock.clock < 1ULL << 51);
	fixture_deinit(&f);
}

static void the_tsc_has_a_frequency(void **state)
{
	struct fixture f;
	u32 khz = 0;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_KERNEL, two_outs, sizeof(two_outs));
	assert_no_error(vcpu_get_tsc_khz(&f.vcpu, &khz));
	assert_true(khz > 100000);
	assert_no_error(vcpu_set_tsc_khz(&f.vcpu, khz));
	fixture_deinit(&f);
}

static void the_tsc_has_an_offset(void **state)
{
	struct fixture f;
	struct probe probe;
	u64 offset = 0;

	SKIP_WITHOUT_KVM();
	probe_run(&probe, KVM_DEVICE);
	if (probe.paravirtual) {
		print_message("skipped: a paravirtual KVM takes a TSC offset and ignores it\n");
		skip();
	}
	fixture_init(&f, VM_IRQCHIP_KERNEL, two_outs, sizeof(two_outs));

	struct error *err = vcpu_get_tsc_offset(&f.vcpu, &offset);

	if (!err) {
		u64 wanted = offset - 123456789;

		assert_no_error(vcpu_set_tsc_offset(&f.vcpu, wanted));
		assert_no_error(vcpu_get_tsc_offset(&f.vcpu, &offset));
		assert_int_equal(offset, wanted);
	} else {
		assert_error(err, ERROR_UNSUPPORTED, "TSC offset");
	}
	fixture_deinit(&f);
}

static void addresses_are_translated(void **state)
{
	struct fixture f;
	bool mapped;
	u64 gpa;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_NONE, two_outs, sizeof(two_outs));
	assert_no_error(vcpu_translate(&f.vcpu, 0x1234, &gpa, &mapped));
	assert_true(mapped);
	assert_int_equal(gpa, 0x1234);
	fixture_deinit(&f);
}

static void an_exit_is_described(void **state)
{
	struct fixture f;
	char text[128], cut[8];
	u16 port;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_NONE, two_outs, sizeof(two_outs));
	run_to_out(&f, &port);
	vcpu_describe_exit(&f.vcpu, text, sizeof(text));
	assert_non_null(strstr(text, "KVM_EXIT_IO, out to port 0x1234, at rip 0x100"));
	memset(cut, 'x', sizeof(cut));
	vcpu_describe_exit(&f.vcpu, cut, 5);
	assert_string_equal(cut, "KVM_");
	assert_int_equal(cut[5], 'x');
	assert_string_equal(vcpu_exit_name(KVM_EXIT_MMIO), "KVM_EXIT_MMIO");
	assert_string_equal(vcpu_exit_name(9999), "an unknown exit");
	fixture_deinit(&f);
}

static void the_same_apic_id_twice_is_refused(void **state)
{
	struct fixture f;
	struct vcpu again;

	SKIP_WITHOUT_KVM();
	fixture_init(&f, VM_IRQCHIP_KERNEL, two_outs, sizeof(two_outs));
	assert_error(vcpu_init(&again, &f.vm, 0), ERROR_OS, "APIC id 0: KVM_CREATE_VCPU");
	assert_int_equal(again.fd, -1);
	vcpu_deinit(&again);
	fixture_deinit(&f);
}

static void ids_above_254_need_the_split_irqchip(void **state)
{
	struct guest_memory memory;
	struct vcpu vcpu;
	struct kvm kvm;
	struct vm vm;
	u32 mp_state;

	SKIP_WITHOUT_KVM();
	assert_no_error(kvm_open(&kvm, KVM_DEVICE));
	assert_no_error(guest_memory_init(&memory, FIXTURE_MEMORY, FIXTURE_MEMORY, 1ULL << 32));
	assert_error(vm_init(&vm, &kvm, &memory, VM_IRQCHIP_KERNEL, 255), ERROR_INVALID, "APIC id 255");
	assert_error(vm_init(&vm, &kvm, &memory, VM_IRQCHIP_SPLIT, 1 << 24), ERROR_UNSUPPORTED, "APIC id 16777216");
	assert_int_equal(vm.fd, -1);

	assert_no_error(vm_init(&vm, &kvm, &memory, VM_IRQCHIP_SPLIT, 433));
	assert_no_error(vcpu_init(&vcpu, &vm, 433));
	assert_no_error(vcpu_get_mp_state(&vcpu, &mp_state));
	assert_int_equal(mp_state, KVM_MP_STATE_UNINITIALIZED);
	vcpu_deinit(&vcpu);
	vm_deinit(&vm);
	guest_memory_deinit(&memory);
	kvm_close(&kvm);
}

static void two_hundred_machines_leave_nothing_behind(void **state)
{
	struct fixture f;
	u16 port;

	SKIP_WITHOUT_KVM();

	struct footprint before = footprint_now();

	for (int i = 0; i < 200; i++) {
		fixture_init(&f, VM_IRQCHIP_NONE, two_outs, sizeof(two_outs));
		run_to_out(&f, &port);
		fixture_deinit(&f);
	}
	assert_footprint(&before, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_port_write_comes_out),
		cmocka_unit_test(a_doorbell_swallows_the_exit_and_signals),
		cmocka_unit_test(a_requested_exit_retires_the_instruction_and_stays_until_cleared),
		cmocka_unit_test(an_overlapping_slot_is_named),
		cmocka_unit_test(the_refused_msr_is_named),
		cmocka_unit_test(the_clock_goes_on_from_where_it_is_set),
		cmocka_unit_test(the_tsc_has_a_frequency),
		cmocka_unit_test(the_tsc_has_an_offset),
		cmocka_unit_test(addresses_are_translated),
		cmocka_unit_test(an_exit_is_described),
		cmocka_unit_test(the_same_apic_id_twice_is_refused),
		cmocka_unit_test(ids_above_254_need_the_split_irqchip),
		cmocka_unit_test(two_hundred_machines_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
