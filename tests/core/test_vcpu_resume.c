// SPDX-License-Identifier: GPL-2.0-or-later
/* Guests that are saved in the middle of their work and go on: in another machine, or back in their own. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "core/vcpu_rig.h"

enum {
	VECTOR = 0x51,
	MSI_ADDRESS = 0xfee00000,
};

/*
 * Guests, in real mode unless they say otherwise. The asm is the host's, assembled for 16 bits.
 *
 * sum: a generator of numbers in eax; what it makes is added up in ebx and in memory, and told every 1000 rounds.
 * halt: waits for an interrupt, whose handler (on_interrupt) tells.
 * read_pages: 64-bit, user mode; tells the word at 4 MiB.
 */
__asm__(".pushsection .rodata, \"a\"\n"
	".code16\n"
	"guest_sum:\n"
	"	movl $12345, %eax\n"
	"	xorl %ebx, %ebx\n"
	"	movw $0x3000, %di\n"
	"1:	movl $1000, %ecx\n"
	"2:	imull $1664525, %eax\n"
	"	addl $1013904223, %eax\n"
	"	addl %eax, %ebx\n"
	"	rorl $3, %ebx\n"
	"	addl %ebx, (%di)\n"
	"	decl %ecx\n"
	"	jnz 2b\n"
	"	outl %eax, $0x12\n"
	"	jmp 1b\n"
	"guest_sum_end:\n"

	"guest_halt:\n"
	"	sti\n"
	"	hlt\n"
	"	movb $1, %al\n"
	"	outb %al, $0x12\n"
	"1:	jmp 1b\n"
	"on_interrupt:\n"
	"	movb $2, %al\n"
	"	outb %al, $0x12\n"
	"	iretw\n"
	"guest_halt_end:\n"

	".code64\n"
	"guest_read_pages:\n"
	"	movl 0x400000, %eax\n"
	"	outl %eax, $0x12\n"
	"	jmp guest_read_pages\n"
	"guest_read_pages_end:\n"
	".popsection\n");

extern const u8 guest_sum[], guest_sum_end[], guest_halt[], on_interrupt[], guest_halt_end[], guest_read_pages[],
	guest_read_pages_end[];

#define INIT_GUEST(rig, irqchip, guest) rig_init_code(rig, irqchip, guest, (size_t)(guest##_end - guest))

/* Runs up to the next OUT to port 0x12 and over it. */
static u32 run_to_out(struct vcpu *vcpu)
{
	enum vcpu_run_result result;
	u32 value = 0;

	assert_no_error(vcpu_run(vcpu, &result));
	assert_int_equal(result, VCPU_EXIT);
	if (vcpu->run->exit_reason != KVM_EXIT_IO || vcpu->run->io.port != 0x12) {
		char text[200];

		vcpu_describe_exit(vcpu, text, sizeof(text));
		fail_msg("%s", text);
	}
	memcpy(&value, (u8 *)vcpu->run + vcpu->run->io.data_offset, vcpu->run->io.size);
	vcpu_request_exit(vcpu);
	assert_no_error(vcpu_run(vcpu, &result));
	assert_int_equal(result, VCPU_INTERRUPTED);
	vcpu_clear_exit(vcpu);
	return value;
}

static void copy_memory(const struct rig *from, struct rig *to)
{
	memcpy(to->f.memory.base, from->f.memory.base, from->f.memory.size);
}

/* Both say the same, and are the same after each word. */
static void assert_in_step(struct rig *a, struct rig *b, u32 words)
{
	struct kvm_regs ra, rb;

	for (u32 i = 0; i < words; i++) {
		assert_int_equal(run_to_out(&a->f.vcpu), run_to_out(&b->f.vcpu));
		assert_no_error(vcpu_get_regs(&a->f.vcpu, &ra));
		assert_no_error(vcpu_get_regs(&b->f.vcpu, &rb));
		assert_memory_equal(&ra, &rb, sizeof(ra));
		assert_memory_equal(a->f.memory.base, b->f.memory.base, a->f.memory.size);
	}
}

static void a_guest_computes_on_in_another_machine(void **state)
{
	static const enum vm_irqchip irqchips[] = { VM_IRQCHIP_NONE, VM_IRQCHIP_KERNEL, VM_IRQCHIP_SPLIT };
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(irqchips); i++) {
		INIT_GUEST(&a, irqchips[i], guest_sum);
		for (u32 words = 0; words < 5; words++)
			run_to_out(&a.f.vcpu);
		move_vcpu(&a, false, irqchips[i], &b);
		copy_memory(&a, &b);
		assert_in_step(&a, &b, 20);
		rig_deinit(&a);
		rig_deinit(&b);
	}
}

/* From wherever it has gone meanwhile, again and again. */
static void a_guest_that_is_put_back_does_the_same_again(void **state)
{
	u32 first[20];
	struct rig r;

	SKIP_WITHOUT_KVM();
	INIT_GUEST(&r, VM_IRQCHIP_KERNEL, guest_sum);
	run_to_out(&r.f.vcpu);

	struct buf bytes = rig_save(&r, &r.f.vcpu);
	u8 *memory = malloc(r.f.memory.size);

	memcpy(memory, r.f.memory.base, r.f.memory.size);
	for (u32 i = 0; i < ARRAY_SIZE(first); i++)
		first[i] = run_to_out(&r.f.vcpu);
	for (u32 round = 1; round < 5; round++) {
		memcpy(r.f.memory.base, memory, r.f.memory.size);
		rig_load(&r.f.vcpu, &bytes);

		struct buf again = rig_save(&r, &r.f.vcpu);

		assert_same_state(&bytes, &again);
		buf_deinit(&again);
		for (u32 i = 0; i < ARRAY_SIZE(first) / round; i++)
			assert_int_equal(run_to_out(&r.f.vcpu), first[i]);
	}
	free(memory);
	buf_deinit(&bytes);
	rig_deinit(&r);
}

static u16 guest_offset(const u8 *label, const u8 *guest)
{
	return (u16)(CODE_GPA + (label - guest));
}

/* Halted, with what will wake it up already in its local APIC. */
static void a_halted_guest_is_woken_there_by_what_waits(void **state)
{
	const struct kvm_mp_state halted = { .mp_state = KVM_MP_STATE_HALTED };
	struct kvm_regs regs;
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	INIT_GUEST(&a, VM_IRQCHIP_KERNEL, guest_halt);
	lapic_enable(&a.f.vcpu);
	*(u16 *)(a.f.memory.base + VECTOR * 4) = guest_offset(on_interrupt, guest_halt);
	assert_no_error(vcpu_get_regs(&a.f.vcpu, &regs));
	regs.rip += 2; // behind STI and HLT
	regs.rflags |= 0x200;
	assert_no_error(vcpu_set_regs(&a.f.vcpu, &regs));
	assert_no_error(KVM_IOCTL(a.f.vcpu.fd, KVM_SET_MP_STATE, &halted, "test"));
	assert_no_error(vm_signal_msi(&a.f.vm, MSI_ADDRESS, VECTOR, NULL));
	move_vcpu(&a, false, VM_IRQCHIP_KERNEL, &b);
	copy_memory(&a, &b);
	rig_deinit(&a);
	assert_int_equal(run_to_out(&b.f.vcpu), 2);
	assert_int_equal(run_to_out(&b.f.vcpu), 1);
	rig_deinit(&b);
}

/* An exception that was about to be delivered is, at the new place: a pending one, and one half delivered. */
static void an_exception_is_delivered_there(void **state)
{
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	for (int pending = 0; pending < 2; pending++) {
		struct kvm_vcpu_events events;

		INIT_GUEST(&a, VM_IRQCHIP_KERNEL, guest_halt);
		*(u16 *)(a.f.memory.base + 6 * 4) = guest_offset(on_interrupt, guest_halt); // #UD
		assert_no_error(KVM_IOCTL(a.f.vcpu.fd, KVM_GET_VCPU_EVENTS, &events, "test"));
		events.exception.pending = pending;
		events.exception.injected = !pending;
		events.exception.nr = 6;
		events.flags |= pending ? KVM_VCPUEVENT_VALID_PAYLOAD : 0;

		struct error *err = KVM_IOCTL(a.f.vcpu.fd, KVM_SET_VCPU_EVENTS, &events, "test");

		if (pending && err && !kvm_capability(&a.f.kvm, KVM_CAP_EXCEPTION_PAYLOAD)) {
			error_destroy(err);
			rig_deinit(&a);
			continue;
		}
		assert_no_error(err);
		move_vcpu(&a, false, VM_IRQCHIP_KERNEL, &b);
		copy_memory(&a, &b);
		assert_int_equal(run_to_out(&b.f.vcpu), 2);
		rig_deinit(&a);
		rig_deinit(&b);
	}
}

/* --- memory and slots --- */

enum {
	PML4 = 0x10000,
	PDPT = 0x11000,
	PAGE_DIRECTORY = 0x12000,
	PAGE_TABLE = 0x13000, /* of the 2 MiB from 4 MiB on */
	OTHER_TABLE = 0x14000, /* instead of it */
	PAGE_A = 0x20000,
	PAGE_B = 0x21000,
};

static const struct mapping {
	u64 table, page;
} mappings[] = {
	{ PAGE_TABLE, PAGE_A },
	{ PAGE_TABLE, PAGE_B },
	{ OTHER_TABLE, PAGE_B },
	{ OTHER_TABLE, PAGE_A },
};

/* Each page has its own address for its contents. */
static void map_pages(u8 *memory, const struct mapping *m)
{
	*(u64 *)(memory + PML4) = PDPT | 7;
	*(u64 *)(memory + PDPT) = PAGE_DIRECTORY | 7;
	*(u64 *)(memory + PAGE_DIRECTORY) = 0x87; // the first 2 MiB as they are
	*(u64 *)(memory + PAGE_DIRECTORY + 2 * 8) = m->table | 7;
	*(u64 *)(memory + m->table) = m->page | 7;
	*(u32 *)(memory + PAGE_A) = PAGE_A;
	*(u32 *)(memory + PAGE_B) = PAGE_B;
}

static struct kvm_segment user_segment(u16 selector, u8 type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector | 3,
		.type = type,
		.dpl = 3,
		.present = 1,
		.s = 1,
		.l = type == 11,
		.db = type != 11,
		.g = 1,
	};
}

/* It may use ports, and never leaves user mode, where every KVM lets the processor do the work. */
static void enter_user_mode(const struct vcpu *vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	assert_no_error(vcpu_get_sregs(vcpu, &sregs));
	sregs.cs = user_segment(0x20, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = user_segment(0x18, 3);
	sregs.tr = (struct kvm_segment){ .base = 0x6000, .limit = 0x67, .selector = 0x28, .type = 11, .present = 1 };
	sregs.cr3 = PML4;
	sregs.cr4 = 0x20;
	sregs.cr0 = 0x80000031;
	sregs.efer = 0x500;
	assert_no_error(vcpu_set_sregs(vcpu, &sregs));
	assert_no_error(vcpu_get_regs(vcpu, &regs));
	regs.rflags |= 0x3000;
	assert_no_error(vcpu_set_regs(vcpu, &regs));
}

/*
 * What KVM derived from page tables is forgotten with the slots: the same address shows another page, by another
 * entry of the same table, or by another table.
 */
static void page_tables_behind_new_slots_are_in_force(void **state)
{
	struct rig r;

	SKIP_WITHOUT_KVM();
	INIT_GUEST(&r, VM_IRQCHIP_KERNEL, guest_read_pages);
	enter_user_mode(&r.f.vcpu);
	for (u32 i = 0; i < 20; i++) {
		const struct mapping *m = &mappings[i * 7 % 5 % ARRAY_SIZE(mappings)];

		map_pages(r.f.memory.base, m);
		assert_no_error(vm_reset_slots(&r.f.vm, &r.f.memory));
		for (u32 j = 0; j < 3; j++)
			assert_int_equal(run_to_out(&r.f.vcpu), m->page);
		*(u32 *)(r.f.memory.base + m->page) = 0xdead;
		assert_int_equal(run_to_out(&r.f.vcpu), 0xdead);
	}
	rig_deinit(&r);
}

/* A rewind as it is done: memory filled again, slots, vCPU. */
static void a_guest_goes_on_in_memory_that_was_put_back(void **state)
{
	int files[ARRAY_SIZE(mappings)];
	struct rig r;

	SKIP_WITHOUT_KVM();
	INIT_GUEST(&r, VM_IRQCHIP_KERNEL, guest_read_pages);
	enter_user_mode(&r.f.vcpu);
	for (u32 i = 0; i < ARRAY_SIZE(mappings); i++) {
		map_pages(r.f.memory.base, &mappings[i]);
		files[i] = memfd_create("memory", MFD_CLOEXEC);
		assert_int_equal(write(files[i], r.f.memory.base, r.f.memory.size), r.f.memory.size);
	}

	struct buf bytes = rig_save(&r, &r.f.vcpu);

	for (u32 i = 0; i < 20; i++) {
		u32 which = i * 7 % 5 % ARRAY_SIZE(mappings);

		assert_no_error(guest_memory_refill(&r.f.memory, files[which]));
		assert_no_error(vm_reset_slots(&r.f.vm, &r.f.memory));
		rig_load(&r.f.vcpu, &bytes);
		for (u32 j = 0; j < 3; j++)
			assert_int_equal(run_to_out(&r.f.vcpu), mappings[which].page);
		*(u32 *)(r.f.memory.base + mappings[which].page) = 0xdead;
		assert_int_equal(run_to_out(&r.f.vcpu), 0xdead);
	}
	for (u32 i = 0; i < ARRAY_SIZE(mappings); i++)
		close(files[i]);
	buf_deinit(&bytes);
	rig_deinit(&r);
}

/* --- interrupt controllers --- */

static struct kvm_irqchip chip_of(const struct vm *vm, u32 id)
{
	struct kvm_irqchip chip = { .chip_id = id };

	assert_no_error(KVM_IOCTL(vm->fd, KVM_GET_IRQCHIP, &chip, "test"));
	return chip;
}

static void set_chips(const struct vm *vm)
{
	for (u32 id = 0; id < KVM_NR_IRQCHIPS; id++) {
		struct kvm_irqchip chip = chip_of(vm, id);

		if (id == KVM_IRQCHIP_IOAPIC) {
			chip.chip.ioapic.ioregsel = 0x12;
			for (u32 i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
				chip.chip.ioapic.redirtbl[i].bits = (0x30 + i) | (i % 2 ? 1 << 16 : 1 << 15);
		} else {
			chip.chip.pic.irq_base = 0x20 + 8 * id;
			chip.chip.pic.imr = 0xf0 + id;
			chip.chip.pic.elcr = 0x08;
			chip.chip.pic.special_mask = 1;
		}
		assert_no_error(KVM_IOCTL(vm->fd, KVM_SET_IRQCHIP, &chip, "test"));
	}
	// A masked pin, and one that is sent to a CPU that takes nothing.
	assert_no_error(vm_set_irq_line(vm, 5, true));
	assert_no_error(vm_set_irq_line(vm, 6, true));
}

static void interrupt_controllers_are_moved(void **state)
{
	struct buf before = BUF_INIT, after = BUF_INIT;
	struct rig a, b;

	SKIP_WITHOUT_KVM();
	rig_init(&a, VM_IRQCHIP_KERNEL);
	rig_init(&b, VM_IRQCHIP_KERNEL);
	set_chips(&a.f.vm);
	assert_no_error(vm_save_irqchip(&a.f.vm, &before));

	struct reader in = reader_init(before.data, before.size);

	assert_no_error(vm_load_irqchip(&b.f.vm, &in));
	assert_no_error(vm_save_irqchip(&b.f.vm, &after));
	assert_int_equal(before.size, after.size);
	assert_memory_equal(before.data, after.data, before.size);
	for (u32 id = 0; id < KVM_NR_IRQCHIPS; id++) {
		struct kvm_irqchip ca = chip_of(&a.f.vm, id), cb = chip_of(&b.f.vm, id);

		assert_memory_equal(&ca.chip, &cb.chip, sizeof(ca.chip));
	}
	assert_int_equal(chip_of(&b.f.vm, KVM_IRQCHIP_PIC_SLAVE).chip.pic.irq_base, 0x28);
	assert_int_equal((u8)chip_of(&b.f.vm, KVM_IRQCHIP_IOAPIC).chip.ioapic.redirtbl[7].bits, 0x37);
	assert_true(chip_of(&b.f.vm, KVM_IRQCHIP_IOAPIC).chip.ioapic.irr & 1 << 5);
	buf_deinit(&before);
	buf_deinit(&after);
	rig_deinit(&a);
	rig_deinit(&b);
}

static void controllers_that_are_not_the_kernels_are_nothing(void **state)
{
	struct buf none = BUF_INIT, some = BUF_INIT;
	struct rig split, kernel;

	SKIP_WITHOUT_KVM();
	rig_init(&split, VM_IRQCHIP_SPLIT);
	rig_init(&kernel, VM_IRQCHIP_KERNEL);
	assert_no_error(vm_save_irqchip(&split.f.vm, &none));
	assert_int_equal(none.size, 0);
	assert_no_error(vm_save_irqchip(&kernel.f.vm, &some));

	struct reader in = reader_init(none.data, 0);

	assert_no_error(vm_load_irqchip(&split.f.vm, &in));
	assert_error(vm_load_irqchip(&kernel.f.vm, &in), ERROR_FORMAT, "cut short");
	in = reader_init(some.data, some.size);
	assert_error(vm_load_irqchip(&split.f.vm, &in), ERROR_FORMAT, "has its own");
	buf_deinit(&none);
	buf_deinit(&some);
	rig_deinit(&split);
	rig_deinit(&kernel);
}

static void controllers_whose_bytes_are_wrong_stay_as_they_were(void **state)
{
	struct buf good = BUF_INIT, after = BUF_INIT;
	struct rig r;

	SKIP_WITHOUT_KVM();
	rig_init(&r, VM_IRQCHIP_KERNEL);
	set_chips(&r.f.vm);
	assert_no_error(vm_save_irqchip(&r.f.vm, &good));
	buf_put_u8(&good, 0);
	for (size_t size = 0; size <= good.size; size++) {
		struct reader in = reader_init(good.data, size);

		if (size != good.size - 1)
			assert_error(vm_load_irqchip(&r.f.vm, &in), ERROR_FORMAT,
				     size < good.size ? "cut short" : "1 bytes too many");
	}
	good.size--;
	assert_no_error(vm_save_irqchip(&r.f.vm, &after));
	assert_memory_equal(good.data, after.data, good.size);
	good.data[0]++;

	struct reader in = reader_init(good.data, good.size);

	assert_error(vm_load_irqchip(&r.f.vm, &in), ERROR_FORMAT, "version 2");
	good.data[0]--;
	// Any byte behind the version may be anything.
	for (size_t i = 4; i < good.size; i++) {
		good.data[i] ^= 0xff;
		in = reader_init(good.data, good.size);
		error_destroy(vm_load_irqchip(&r.f.vm, &in));
		good.data[i] ^= 0xff;
	}
	in = reader_init(good.data, good.size);
	assert_no_error(vm_load_irqchip(&r.f.vm, &in));
	after.size = 0;
	assert_no_error(vm_save_irqchip(&r.f.vm, &after));
	assert_memory_equal(good.data, after.data, good.size);
	buf_deinit(&good);
	buf_deinit(&after);
	rig_deinit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_computes_on_in_another_machine),
		cmocka_unit_test(a_guest_that_is_put_back_does_the_same_again),
		cmocka_unit_test(a_halted_guest_is_woken_there_by_what_waits),
		cmocka_unit_test(an_exception_is_delivered_there),
		cmocka_unit_test(page_tables_behind_new_slots_are_in_force),
		cmocka_unit_test(a_guest_goes_on_in_memory_that_was_put_back),
		cmocka_unit_test(interrupt_controllers_are_moved),
		cmocka_unit_test(controllers_that_are_not_the_kernels_are_nothing),
		cmocka_unit_test(controllers_whose_bytes_are_wrong_stay_as_they_were),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
