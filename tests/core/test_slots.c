// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory slots with read-only pages in between: what the guest's writes do, and that nothing else changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/kvm_fixture.h"
#include "kvm/slots.h"

enum {
	PAGE = SLOTS_PAGE_SIZE,
	WATCHED = 0x8000,
};

/* Writes 0x55 to [bx], reads it back, tells what it read. Real mode. */
static const u8 code[] = {
	0xc6, 0x07, 0x55, // movb $0x55, (%bx)
	0x8a, 0x07, // movb (%bx), %al
	0xe6, 0x12, // outb %al, $0x12
	0xeb, 0xf7, // jmp to the start
};

static void put_rip(struct fixture *f, u64 bx)
{
	struct kvm_regs regs = { .rip = CODE_GPA, .rbx = bx, .rsp = CODE_GPA, .rflags = 2 };

	assert_no_error(vcpu_set_regs(&f->vcpu, &regs));
}

static u32 run(struct fixture *f)
{
	enum vcpu_run_result result;

	assert_no_error(vcpu_run(&f->vcpu, &result));
	assert_int_equal(result, VCPU_EXIT);
	return f->vcpu.run->exit_reason;
}

static u8 told(struct fixture *f)
{
	assert_int_equal(f->vcpu.run->exit_reason, KVM_EXIT_IO);
	return ((u8 *)f->vcpu.run)[f->vcpu.run->io.data_offset];
}

static void assert_writes_through(struct fixture *f, u64 gpa)
{
	f->memory.base[gpa] = 0;
	put_rip(f, gpa);
	assert_int_equal(run(f), KVM_EXIT_IO);
	assert_int_equal(told(f), 0x55);
	assert_int_equal(f->memory.base[gpa], 0x55);
}

static void assert_write_exits(struct fixture *f, u64 gpa)
{
	const struct kvm_run *run_page = f->vcpu.run;

	f->memory.base[gpa] = 0x11;
	put_rip(f, gpa);
	assert_int_equal(run(f), KVM_EXIT_MMIO);
	assert_true(run_page->mmio.is_write);
	assert_int_equal(run_page->mmio.phys_addr, gpa);
	assert_int_equal(run_page->mmio.len, 1);
	assert_int_equal(run_page->mmio.data[0], 0x55);
	// Nobody has carried it out; it can be read all the same.
	assert_int_equal(run(f), KVM_EXIT_IO);
	assert_int_equal(told(f), 0x11);
}

static void init(struct fixture *f, struct slots *s)
{
	fixture_init(f, VM_IRQCHIP_KERNEL, code, sizeof(code));
	slots_init(s, &f->kvm, &f->vm, &f->memory);
}

static void a_protected_page_exits_on_writes_and_its_neighbours_do_not(void **state)
{
	const u64 pages[] = { WATCHED };
	struct fixture f;
	struct slots s;
	bool broken;

	SKIP_WITHOUT_KVM();
	init(&f, &s);
	assert_writes_through(&f, WATCHED);
	assert_no_error(slots_protect(&s, pages, 1, &broken));
	assert_true(slots_is_protected(&s, WATCHED + 5));
	assert_false(slots_is_protected(&s, WATCHED + PAGE));
	assert_write_exits(&f, WATCHED);
	assert_write_exits(&f, WATCHED + PAGE - 1);
	assert_writes_through(&f, WATCHED - 1);
	assert_writes_through(&f, WATCHED + PAGE);
	assert_no_error(slots_protect(&s, NULL, 0, &broken));
	assert_writes_through(&f, WATCHED);
	assert_int_equal(s.count, 1);
	fixture_deinit(&f);
}

static void pages_at_the_ends_and_side_by_side_are_protected(void **state)
{
	const u64 last = FIXTURE_MEMORY - PAGE;
	const u64 pages[] = { 0, WATCHED, WATCHED + PAGE, last };
	struct fixture f;
	struct slots s;
	bool broken;

	SKIP_WITHOUT_KVM();
	init(&f, &s);
	assert_no_error(slots_protect(&s, pages, ARRAY_SIZE(pages), &broken));
	assert_write_exits(&f, 0);
	assert_write_exits(&f, WATCHED);
	assert_write_exits(&f, WATCHED + PAGE);
	assert_writes_through(&f, WATCHED + 2 * PAGE);
	for (u32 i = 0; i < ARRAY_SIZE(pages); i++)
		assert_true(slots_is_protected(&s, pages[i]));
	fixture_deinit(&f);
}

static void what_was_protected_is_so_after_a_reset(void **state)
{
	const u64 pages[] = { WATCHED };
	struct fixture f;
	struct slots s;
	bool broken;

	SKIP_WITHOUT_KVM();
	init(&f, &s);
	assert_no_error(slots_protect(&s, pages, 1, &broken));
	for (u32 i = 0; i < 3; i++)
		assert_no_error(slots_reset(&s));
	assert_write_exits(&f, WATCHED);
	assert_writes_through(&f, WATCHED + PAGE);
	fixture_deinit(&f);
}

static void pages_come_and_go_many_times(void **state)
{
	u64 pages[SLOTS_MAX_PAGES];
	struct fixture f;
	struct slots s;
	bool broken;

	SKIP_WITHOUT_KVM();
	init(&f, &s);
	for (u32 round = 0; round < 40; round++) {
		u32 count = 0;

		for (u32 i = 0; i < 30; i++)
			if ((i * 7 + round * 13) % 5 < 2)
				pages[count++] = 0x10000 + i * (u64)PAGE;
		assert_no_error(slots_protect(&s, pages, count, &broken));
		assert_false(broken);
		for (u32 i = 0, k = 0; i < 30; i += 7) {
			u64 gpa = 0x10000 + i * (u64)PAGE;

			while (k < count && pages[k] < gpa)
				k++;
			assert_int_equal(slots_is_protected(&s, gpa), k < count && pages[k] == gpa);
		}
	}
	fixture_deinit(&f);
}

static void pages_that_are_none_are_refused_and_nothing_changes(void **state)
{
	const u64 good[] = { WATCHED };
	const u64 outside[] = { WATCHED, FIXTURE_MEMORY }, unaligned[] = { WATCHED + 1 };
	const u64 twice[] = { WATCHED, WATCHED }, descending[] = { WATCHED + PAGE, WATCHED };
	u64 many[SLOTS_MAX_PAGES + 1];
	struct fixture f;
	struct slots s;
	bool broken = true;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = i * (u64)PAGE;
	init(&f, &s);
	assert_no_error(slots_protect(&s, good, 1, &broken));
	assert_error(slots_protect(&s, outside, 2, &broken), ERROR_INVALID, "0x200000 is not a page");
	assert_error(slots_protect(&s, unaligned, 1, &broken), ERROR_INVALID, "0x8001 is not a page");
	assert_error(slots_protect(&s, twice, 2, &broken), ERROR_INVALID, "0x8000 is not a page");
	assert_error(slots_protect(&s, descending, 2, &broken), ERROR_INVALID, "0x8000 is not a page");
	assert_error(slots_protect(&s, many, ARRAY_SIZE(many), &broken), ERROR_UNSUPPORTED, "at most 256");
	s.limit = 4;
	assert_error(slots_protect(&s, many, 4, &broken), ERROR_UNSUPPORTED, "it has 4 memory slots");
	assert_false(broken);
	assert_write_exits(&f, WATCHED);
	fixture_deinit(&f);
}

static void after_a_failure_the_slots_are_as_before(void **state)
{
	const u64 before[] = { WATCHED }, after[] = { WATCHED, WATCHED + 4 * PAGE };
	struct fixture f;
	struct slots s;
	bool broken;

	SKIP_WITHOUT_KVM();
	init(&f, &s);
	assert_no_error(slots_protect(&s, before, 1, &broken));

	// KVM refuses a slot that is not a whole number of pages.
	f.memory.regions[0].size -= 1;
	assert_error(slots_protect(&s, after, 2, &broken), ERROR_OS, "memory slot");
	assert_true(broken); // nor can it go back, with that
	f.memory.regions[0].size += 1;
	assert_no_error(slots_reset(&s));
	assert_write_exits(&f, WATCHED);
	assert_writes_through(&f, WATCHED + 4 * PAGE);
	fixture_deinit(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_protected_page_exits_on_writes_and_its_neighbours_do_not),
		cmocka_unit_test(pages_at_the_ends_and_side_by_side_are_protected),
		cmocka_unit_test(what_was_protected_is_so_after_a_reset),
		cmocka_unit_test(pages_come_and_go_many_times),
		cmocka_unit_test(pages_that_are_none_are_refused_and_nothing_changes),
		cmocka_unit_test(after_a_failure_the_slots_are_as_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
