// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/view_rig.h"
#include "kernel/pid.h"

/* What lies where, from DATA on. */
enum {
	IDR = 0,
	LEAVES = 0x1000, /* nodes */
	PIDS = 0x8000,
	TASKS = 0x10000,

	NODE = 0x300,
	PID_SIZE = 0x100,
	TASK_SIZE = 0x200,
};

#define AT (DIRECT_MAP + DATA)

static const struct pid_layout layout = {
	.head = AT + IDR + 8,
	.base = AT + IDR,
	.node_shift = 1,
	.node_slots = 0x20,
	.slot_bits = 6,
	.pid_tasks = 0x18,
	.task_links = 0x40,
	.task_pid = 0x28,
};

static void put(struct rig *r, u64 offset, u64 value)
{
	memcpy(at(r, DATA + offset), &value, sizeof(value));
}

static u64 node_entry(u32 index)
{
	return (AT + LEAVES + index * NODE) | 2;
}

static void set_slot(struct rig *r, u32 node, u32 slot, u64 entry)
{
	put(r, LEAVES + node * NODE + layout.node_slots + 8 * slot, entry);
}

static void set_shift(struct rig *r, u32 node, u8 shift)
{
	*at(r, DATA + LEAVES + node * NODE + layout.node_shift) = shift;
}

/* A struct pid and its task; returns the entry. */
static u64 make_task(struct rig *r, u32 number, u32 pid)
{
	u64 task = TASKS + number * TASK_SIZE, of_pid = PIDS + number * PID_SIZE;

	put(r, of_pid + layout.pid_tasks, AT + task + layout.task_links);
	memcpy(at(r, DATA + task + layout.task_pid), &pid, 4);
	return AT + of_pid;
}

static u64 task_at(u32 number)
{
	return AT + TASKS + number * TASK_SIZE;
}

static enum error_code refused(struct rig *r, u32 pid)
{
	u64 task;
	struct error *err = pid_find_task(&r->view, &layout, pid, &task);
	enum error_code code;

	assert_non_null(err);
	code = error_code(err);
	error_destroy(err);
	return code;
}

static u64 found(struct rig *r, u32 pid)
{
	u64 task;

	assert_no_error(pid_find_task(&r->view, &layout, pid, &task));
	return task;
}

/* Pids 1, 63 in one leaf, 64 and 4095 in others: two levels. */
static void plant(struct rig *r)
{
	put(r, IDR + 8, node_entry(0));
	set_shift(r, 0, 6);
	set_slot(r, 0, 0, node_entry(1));
	set_slot(r, 0, 1, node_entry(2));
	set_slot(r, 0, 63, node_entry(3));
	set_slot(r, 1, 1, make_task(r, 0, 1));
	set_slot(r, 1, 63, make_task(r, 1, 63));
	set_slot(r, 2, 0, make_task(r, 2, 64));
	set_slot(r, 3, 63, make_task(r, 3, 4095));
}

static void a_task_is_found_by_its_pid(void **state)
{
	struct rig *r = *state;

	plant(r);
	assert_int_equal(found(r, 1), task_at(0));
	assert_int_equal(found(r, 63), task_at(1));
	assert_int_equal(found(r, 64), task_at(2));
	assert_int_equal(found(r, 4095), task_at(3));
	assert_int_equal(refused(r, 2), ERROR_NOT_FOUND);
	assert_int_equal(refused(r, 0), ERROR_NOT_FOUND);
	assert_int_equal(refused(r, 4096), ERROR_NOT_FOUND);
	assert_int_equal(refused(r, 130), ERROR_NOT_FOUND); // no leaf at all
	assert_int_equal(refused(r, INT32_MAX), ERROR_NOT_FOUND);
}

static void the_first_pid_need_not_be_0(void **state)
{
	struct rig *r = *state;

	plant(r);
	put(r, IDR, 300);
	make_task(r, 0, 301);
	assert_int_equal(found(r, 301), task_at(0));
	assert_int_equal(refused(r, 299), ERROR_NOT_FOUND);
	assert_int_equal(refused(r, 1), ERROR_NOT_FOUND);
}

static void an_empty_tree_and_a_kept_pid_have_no_task(void **state)
{
	struct rig *r = *state;

	assert_int_equal(refused(r, 1), ERROR_NOT_FOUND);
	plant(r);
	put(r, PIDS + layout.pid_tasks, 0);
	assert_int_equal(refused(r, 1), ERROR_NOT_FOUND);
	// One that stands for many, further up; one alone, at the place of the first.
	set_slot(r, 0, 0, make_task(r, 0, 1));
	assert_int_equal(refused(r, 1), ERROR_NOT_FOUND);
	put(r, IDR + 8, make_task(r, 0, 1));
	assert_int_equal(refused(r, 1), ERROR_NOT_FOUND);
	put(r, IDR, 1);
	assert_int_equal(found(r, 1), task_at(0));
	put(r, IDR, 0);
	plant(r);
	// A place that is taken and empty, a sibling, a value.
	for (u64 entry = 0; entry < 0x410; entry++) {
		if (entry && (entry & 3) == 0)
			continue;
		set_slot(r, 1, 1, entry);
		assert_int_equal(refused(r, 1), ERROR_NOT_FOUND);
	}
}

static void a_damaged_tree_ends_the_walk(void **state)
{
	struct rig *r = *state;

	plant(r);
	set_slot(r, 0, 0, node_entry(0)); // its own parent
	assert_int_equal(refused(r, 1), ERROR_FORMAT);
	plant(r);
	set_shift(r, 1, 6); // no less than the one above
	assert_int_equal(refused(r, 1), ERROR_FORMAT);
	set_shift(r, 1, 3);
	assert_int_equal(refused(r, 1), ERROR_FORMAT);
	set_shift(r, 1, 0);
	for (u32 i = 0; i < 3; i++) {
		static const u8 shifts[] = { 255, 66, 7 };

		set_shift(r, 0, shifts[i]);
		assert_int_equal(refused(r, 1), ERROR_FORMAT);
	}
	set_shift(r, 0, 6);
	set_slot(r, 1, 1, node_entry(1)); // below a leaf
	assert_int_equal(refused(r, 1), ERROR_FORMAT);
	set_slot(r, 1, 1, 0xffffc90000000000ULL);
	assert_int_equal(refused(r, 1), ERROR_UNMAPPED);
	set_slot(r, 0, 0, 0xffffc90000000002ULL);
	assert_int_equal(refused(r, 1), ERROR_UNMAPPED);
	plant(r);
	make_task(r, 0, 2); // somebody else's
	assert_int_equal(refused(r, 1), ERROR_FORMAT);
}

static void a_kernel_whose_tree_is_not_known_has_no_pids(void **state)
{
	struct rig *r = *state;
	const struct pid_layout nothing = { 0 };
	u64 task;
	struct error *err = pid_find_task(&r->view, &nothing, 1, &task);

	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_UNSUPPORTED);
	error_destroy(err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KNOWN_TEST(a_task_is_found_by_its_pid),
		KNOWN_TEST(the_first_pid_need_not_be_0),
		KNOWN_TEST(an_empty_tree_and_a_kept_pid_have_no_task),
		KNOWN_TEST(a_damaged_tree_ends_the_walk),
		KNOWN_TEST(a_kernel_whose_tree_is_not_known_has_no_pids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
