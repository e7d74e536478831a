// SPDX-License-Identifier: GPL-2.0-or-later
/* A guest that has a guest of its own, by AMD's SVM: saved while either runs, it goes on where it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/vcpu_rig.h"

/* Where things are in the guest's memory, the first 2 MiB of which are mapped as they are. */
enum {
	PML4 = 0x10000,
	PDPT = 0x11000,
	PAGE_DIRECTORY = 0x12000,
	VMCB = 0x14000,
	HOST_SAVE = 0x15000,
};

enum {
	EFER_SVME_LONG_MODE = 0x1500,
	MSR_VM_HSAVE_PA = 0xc0010117,
	SVM_EXIT_VMMCALL = 0x81,
};

/*
 * The outer guest runs the inner one for ever, and tells why it came back; the inner one counts in ebx and tells
 * each number. The asm is the host's, and names its constants itself.
 */
__asm__(".pushsection .rodata, \"a\"\n"
	".set VMCB, 0x14000\n"
	"guest_outer:\n"
	"	movl $VMCB, %eax\n"
	"	vmrun %rax\n"
	"	movq VMCB + 0x70, %rax\n" // why it came back
	"	outl %eax, $0x12\n"
	"	subq $(after_inner - guest_inner), VMCB + 0x400 + 0x178\n" // its rip
	"	addq $3, VMCB + 0x400 + 0x178\n" // which is at the VMMCALL
	"	jmp guest_outer\n"
	"guest_inner:\n"
	"	incl %ebx\n"
	"	movl %ebx, %eax\n"
	"	outl %eax, $0x12\n"
	"	incl %ebx\n"
	"	movl %ebx, %eax\n"
	"	outl %eax, $0x12\n"
	"	vmmcall\n"
	"after_inner:\n"
	"guest_end:\n"
	".popsection\n");

extern const u8 guest_outer[], guest_inner[], guest_end[];

struct vmcb_segment {
	u16 selector, attributes;
	u32 limit;
	u64 base;
};

static void put_word(u8 *vmcb, u32 offset, u64 value, u32 size)
{
	memcpy(vmcb + offset, &value, size);
}

static void put_segment(u8 *vmcb, u32 index, u16 selector, u16 attributes)
{
	const struct vmcb_segment segment = { selector, attributes, 0xffffffff, 0 };

	memcpy(vmcb + 0x400 + index * sizeof(segment), &segment, sizeof(segment));
}

/* 64-bit, in the outer guest's memory and page tables; VMRUN and VMMCALL come back. */
static void write_vmcb(u8 *vmcb)
{
	put_word(vmcb, 0x10, 3, 4);
	put_word(vmcb, 0x58, 1, 4); // its address space
	put_segment(vmcb, 0, 16, 0xc93); // ES, CS, SS, DS, FS, GS
	put_segment(vmcb, 1, 8, 0xa9b);
	for (u32 i = 2; i < 6; i++)
		put_segment(vmcb, i, 16, 0xc93);
	put_segment(vmcb, 9, 0x28, 0x8b); // TR
	put_word(vmcb, 0x4d0, EFER_SVME_LONG_MODE, 8);
	put_word(vmcb, 0x548, 0x20, 8); // CR4, CR3, CR0
	put_word(vmcb, 0x550, PML4, 8);
	put_word(vmcb, 0x558, 0x80000031, 8);
	put_word(vmcb, 0x560, 0x400, 8); // DR7, DR6
	put_word(vmcb, 0x568, 0xffff0ff0, 8);
	put_word(vmcb, 0x570, 2, 8); // RFLAGS, RIP
	put_word(vmcb, 0x578, CODE_GPA + (u64)(guest_inner - guest_outer), 8);
}

static void enter_long_mode(const struct vcpu *vcpu)
{
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
	};
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
	};
	struct kvm_sregs sregs;

	assert_no_error(vcpu_get_sregs(vcpu, &sregs));
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr3 = PML4;
	sregs.cr4 = 0x20;
	sregs.cr0 = 0x80000031;
	sregs.efer = EFER_SVME_LONG_MODE;
	assert_no_error(vcpu_set_sregs(vcpu, &sregs));
}

static bool has_svm(const struct kvm *kvm)
{
	struct kvm_cpuid2 *cpuid;

	assert_no_error(kvm_supported_cpuid(kvm, 0, &cpuid));

	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0x80000001, 0);
	bool svm = e && e->ecx & 4 && kvm_capability(kvm, KVM_CAP_NESTED_STATE) > 0;

	free(cpuid);
	return svm;
}

/* False, and said so, where there is no SVM to be had. */
static bool outer_init(struct rig *r)
{
	const struct kvm_msr_entry host_save = { .index = MSR_VM_HSAVE_PA, .data = HOST_SAVE };
	struct kvm_regs regs;

	rig_init_code(r, VM_IRQCHIP_KERNEL, guest_outer, (size_t)(guest_end - guest_outer));
	if (!has_svm(&r->f.kvm)) {
		print_message("skipped: this KVM offers no nested SVM\n");
		rig_deinit(r);
		return false;
	}

	u8 *memory = r->f.memory.base;

	put_word(memory, PML4, PDPT | 3, 8);
	put_word(memory, PDPT, PAGE_DIRECTORY | 3, 8);
	put_word(memory, PAGE_DIRECTORY, 0x83, 8);
	write_vmcb(memory + VMCB);
	enter_long_mode(&r->f.vcpu);
	assert_no_error(vcpu_set_msrs(&r->f.vcpu, &host_save, 1));
	assert_no_error(vcpu_get_regs(&r->f.vcpu, &regs));
	regs.rbx = 100;
	assert_no_error(vcpu_set_regs(&r->f.vcpu, &regs));
	return true;
}

static u32 run_to_out(struct vcpu *vcpu)
{
	enum vcpu_run_result result;
	u32 value;

	assert_no_error(vcpu_run(vcpu, &result));
	assert_int_equal(result, VCPU_EXIT);
	if (vcpu->run->exit_reason != KVM_EXIT_IO) {
		char text[200];

		vcpu_describe_exit(vcpu, text, sizeof(text));
		fail_msg("%s", text);
	}
	memcpy(&value, (u8 *)vcpu->run + vcpu->run->io.data_offset, sizeof(value));
	vcpu_request_exit(vcpu);
	assert_no_error(vcpu_run(vcpu, &result));
	assert_int_equal(result, VCPU_INTERRUPTED);
	vcpu_clear_exit(vcpu);
	return value;
}

/* The word that comes i-th: two numbers from the inner guest, one from the outer. */
static u32 expected(u32 i)
{
	return i % 3 == 2 ? SVM_EXIT_VMMCALL : 101 + i / 3 * 2 + i % 3;
}

static bool is_inner(const struct buf *bytes)
{
	struct vcpu_parts parts = parts_of(bytes);
	struct kvm_nested_state nested;

	assert_non_null(parts.part[VCPU_NESTED].data);
	memcpy(&nested, parts.part[VCPU_NESTED].data, sizeof(nested));
	return nested.flags & KVM_STATE_NESTED_GUEST_MODE;
}

static void a_guest_of_a_guest_goes_on_in_another_machine(void **state)
{
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	for (u32 stop = 0; stop < 7; stop++) {
		if (!outer_init(&a))
			skip();
		for (u32 i = 0; i < stop; i++)
			assert_int_equal(run_to_out(&a.f.vcpu), expected(i));

		struct buf bytes = rig_save(&a, &a.f.vcpu);

		assert_int_equal(is_inner(&bytes), stop % 3 != 0);
		buf_deinit(&bytes);
		move_vcpu(&a, false, VM_IRQCHIP_KERNEL, &b);
		memcpy(b.f.memory.base, a.f.memory.base, a.f.memory.size);
		rig_deinit(&a);
		for (u32 i = stop; i < stop + 7; i++)
			assert_int_equal(run_to_out(&b.f.vcpu), expected(i));
		rig_deinit(&b);
	}
}

static void change_segment(const struct vcpu *vcpu)
{
	struct kvm_sregs sregs;

	assert_no_error(vcpu_get_sregs(vcpu, &sregs));
	sregs.ds.limit = 0xffffff;
	sregs.ds.selector = 32;
	assert_no_error(vcpu_set_sregs(vcpu, &sregs));
}

/* From the outer into the inner, the other way round, and from one moment of the inner to another. */
static void a_guest_of_a_guest_is_put_back(void **state)
{
	enum { MOMENTS = 4 };
	struct buf bytes[MOMENTS];
	u8 *memory[MOMENTS];
	struct rig r;

	SKIP_WITHOUT_KVM();
	if (!outer_init(&r))
		skip();
	for (u32 i = 0; i < MOMENTS; i++) {
		bytes[i] = rig_save(&r, &r.f.vcpu);
		memory[i] = malloc(r.f.memory.size);
		memcpy(memory[i], r.f.memory.base, r.f.memory.size);
		// What the outer one has while the inner one runs is not what it had before.
		if (i == 0)
			change_segment(&r.f.vcpu);
		assert_int_equal(run_to_out(&r.f.vcpu), expected(i));
	}
	for (u32 i = 0; i < MOMENTS * 7; i++) {
		u32 moment = i % MOMENTS, runs = i / MOMENTS;

		memcpy(r.f.memory.base, memory[moment], r.f.memory.size);
		rig_load(&r.f.vcpu, &bytes[moment]);

		struct buf again = rig_save(&r, &r.f.vcpu);

		assert_same_state(&bytes[moment], &again);
		buf_deinit(&again);
		for (u32 j = 0; j < runs; j++)
			assert_int_equal(run_to_out(&r.f.vcpu), expected(moment + j));
	}
	for (u32 i = 0; i < MOMENTS; i++) {
		buf_deinit(&bytes[i]);
		free(memory[i]);
	}
	rig_deinit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_of_a_guest_goes_on_in_another_machine),
		cmocka_unit_test(a_guest_of_a_guest_is_put_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
