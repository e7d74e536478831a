// SPDX-License-Identifier: GPL-2.0-or-later
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/view_rig.h"
#include "kernel/ops.h"

#define AT (DIRECT_MAP + DATA)
#define UNMAPPED 0xffffc90000000000ULL

/* Where a per-CPU area's offsets lie, and what is per-CPU. */
#define OFFSETS (AT + 0x800)
#define PER_CPU_START 0x20000ULL

enum { OPS = 16 };

static struct op on(u8 op, u64 address, u32 size, u64 value)
{
	return (struct op){ .op = op, .start = address, .size = size, .value = value };
}

static struct op read_of(u64 address, u32 size)
{
	return on(KERNEL_OP_READ, address, size, 0);
}

static struct op write_of(u64 address, u32 size, u64 value)
{
	return on(KERNEL_OP_WRITE, address, size, value);
}

struct outcome {
	u64 values[OPS];
	u32 done;
	enum error_code code; /* of what ended it early */
	char message[256];
};

static struct outcome run_batch(struct rig *r, struct op_batch *b)
{
	struct outcome ret = { 0 };

	b->values = ret.values;
	assert_no_error(op_batch_check(b));
	op_batch_run(b, &r->view);
	ret.done = b->done;
	if (b->err) {
		ret.code = error_code(b->err);
		snprintf(ret.message, sizeof(ret.message), "%s", error_message(b->err));
		error_destroy(b->err);
	} else {
		assert_int_equal(b->done, b->count);
	}
	return ret;
}

static struct outcome run(struct rig *r, const struct op *ops, u32 count, bool frozen)
{
	return run_batch(r, &(struct op_batch){ .ops = ops, .count = count, .frozen = frozen });
}

static u64 *word(struct rig *r, u64 offset)
{
	return (u64 *)at(r, DATA + offset);
}

static void words_are_read_and_written_at_each_size(void **state)
{
	struct rig *r = *state;

	*word(r, 0) = 0x1122334455667788;
	for (u32 frozen = 0; frozen < 2; frozen++) {
		const struct op ops[] = {
			read_of(AT, 8),
			read_of(AT, 4),
			read_of(AT + 4, 4),
			read_of(AT + 6, 2),
			read_of(AT + 1, 1),
			write_of(AT + 8, 8, ~0ULL),
			write_of(AT + 10, 2, 0xdead0001),
			read_of(AT + 8, 8),
		};
		struct outcome o = run(r, ops, ARRAY_SIZE(ops), frozen);

		assert_int_equal(o.done, ARRAY_SIZE(ops));
		assert_int_equal(o.values[0], 0x1122334455667788);
		assert_int_equal(o.values[1], 0x55667788);
		assert_int_equal(o.values[2], 0x11223344);
		assert_int_equal(o.values[3], 0x1122);
		assert_int_equal(o.values[4], 0x77);
		assert_int_equal(o.values[7], 0xffffffff0001ffff);
		*word(r, 8) = 0;
	}
}

static void the_first_failure_ends_the_batch_and_what_was_done_stays(void **state)
{
	struct rig *r = *state;
	const struct op ops[] = {
		write_of(AT, 8, 1),
		write_of(AT + 8, 4, 2),
		write_of(UNMAPPED, 8, 3),
		write_of(AT + 16, 8, 4),
		read_of(AT, 8),
	};

	for (u32 frozen = 0; frozen < 2; frozen++) {
		*word(r, 0) = *word(r, 8) = *word(r, 16) = 0;

		struct outcome o = run(r, ops, ARRAY_SIZE(ops), frozen);

		assert_int_equal(o.done, 2);
		assert_int_equal(o.code, ERROR_UNMAPPED);
		assert_non_null(strstr(o.message, "0xffffc90000000000 is not mapped"));
		assert_int_equal(*word(r, 0), 1);
		assert_int_equal(*word(r, 8), 2);
		assert_int_equal(*word(r, 16), 0);
	}
}

static void setting_bits_leaves_the_others_and_tells_what_was_there(void **state)
{
	struct rig *r = *state;
	const struct op ops[] = { on(KERNEL_OP_OR, AT + 4, 4, 0x80000001), on(KERNEL_OP_OR, AT + 4, 4, 0x10) };

	*word(r, 0) = 0x0000000200000000ULL | 0xabcd;

	struct outcome o = run(r, ops, 2, false);

	assert_int_equal(o.done, 2);
	assert_int_equal(o.values[0], 2);
	assert_int_equal(o.values[1], 0x80000003);
	assert_int_equal(*word(r, 0), 0x800000130000abcdULL);
	/* Frozen it need not be aligned. */
	*word(r, 8) = 0;
	assert_int_equal(run(r, &(struct op){ .op = KERNEL_OP_OR, .start = AT + 9, .size = 4, .value = 0xff0000ff }, 1,
			     true)
				 .done,
			 1);
	assert_int_equal(*word(r, 8), 0xff0000ff00ULL);
}

static struct op field(u8 op, u32 size, u8 shift, u8 bits, u64 value)
{
	return (struct op){ .op = op, .start = AT, .size = size, .shift = shift, .bits = bits, .value = value };
}

static void a_bit_field_is_read_written_and_set_without_its_neighbours(void **state)
{
	struct rig *r = *state;
	const struct op ops[] = {
		field(KERNEL_OP_READ, 4, 4, 8, 0),
		field(KERNEL_OP_WRITE, 4, 4, 8, 0xfabc), // what does not fit is not written beside it
		field(KERNEL_OP_OR, 4, 12, 4, 0xf2),
		field(KERNEL_OP_READ, 4, 0, 32, 0),
		field(KERNEL_OP_READ, 8, 60, 4, 0),
		field(KERNEL_OP_WRITE, 8, 60, 4, 1),
		field(KERNEL_OP_WRITE, 8, 0, 64, 3),
		field(KERNEL_OP_READ, 8, 0, 64, 0),
	};

	*word(r, 0) = 0xf23456789abcdef0;

	struct outcome o = run(r, ops, ARRAY_SIZE(ops), true);

	assert_int_equal(o.done, ARRAY_SIZE(ops));
	assert_int_equal(o.values[0], 0xef);
	assert_int_equal(o.values[2], 0xd);
	assert_int_equal(o.values[3], 0x9abcfbc0);
	assert_int_equal(o.values[4], 0xf);
	assert_int_equal(o.values[7], 3);
	*word(r, 0) = 0xf23456789abcdef0;
	o = run(r, ops + 5, 1, true);
	assert_int_equal(*word(r, 0), 0x123456789abcdef0);
	/* While the guest runs it is read, and its bits are set; but the guest may write what it has read before. */
	o = run(r, ops, 2, false);
	assert_int_equal(o.done, 1);
	assert_int_equal(o.code, ERROR_RUNNING);
	assert_non_null(strstr(o.message, "the 8 bits at 0x"));
	assert_int_equal(run(r, ops + 2, 1, false).values[0], 0xd);
	assert_int_equal(*word(r, 0), 0x123456789abcfef0);
}

/* A guest that goes on. */
struct guest {
	u64 *at;
	bool stop; /* atomic */
	u64 turns; /* atomic */
	u64 torn; /* values that nobody wrote */
};

static void turn(struct guest *g)
{
	__atomic_fetch_add(&g->turns, 1, __ATOMIC_SEQ_CST);
}

static void *toggle(void *arg)
{
	struct guest *g = arg;

	for (u64 value = 0; !__atomic_load_n(&g->stop, __ATOMIC_SEQ_CST); value = ~value, turn(g))
		__atomic_store_n(g->at, value, __ATOMIC_RELAXED);
	return NULL;
}

static void *look(void *arg)
{
	struct guest *g = arg;

	for (; !__atomic_load_n(&g->stop, __ATOMIC_SEQ_CST); turn(g)) {
		u64 value = __atomic_load_n(g->at, __ATOMIC_RELAXED);

		g->torn += value != 0 && value != ~0ULL;
	}
	return NULL;
}

static void *count_low_half(void *arg)
{
	struct guest *g = arg;

	for (; !__atomic_load_n(&g->stop, __ATOMIC_SEQ_CST); turn(g))
		__atomic_fetch_add((u32 *)g->at, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static pthread_t start_guest(struct guest *g, void *(*f)(void *))
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, f, g), 0);
	while (!__atomic_load_n(&g->turns, __ATOMIC_SEQ_CST))
		sched_yield();
	return thread;
}

static void end_guest(struct guest *g, pthread_t thread)
{
	__atomic_store_n(&g->stop, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
}

static void a_word_is_never_torn(void **state)
{
	struct rig *r = *state;
	struct guest g = { .at = word(r, 0) };
	pthread_t thread = start_guest(&g, toggle);
	const struct op reads[] = { read_of(AT, 8), { .op = KERNEL_OP_READ, .start = AT, .size = 8, .is_bytes = 1 } };
	const struct op writes[] = {
		write_of(AT, 8, 0),
		write_of(AT, 8, ~0ULL),
		{ .op = KERNEL_OP_WRITE, .start = AT, .size = 8, .is_bytes = 1 },
	};
	u64 data = 0;

	for (u32 i = 0; i < 20000; i++) {
		struct op_batch b = { .ops = reads, .count = 2, .data = (u8 *)&data, .data_size = 8 };
		struct outcome o = run_batch(r, &b);

		assert_true(o.values[0] == 0 || o.values[0] == ~0ULL);
		assert_true(data == 0 || data == ~0ULL);
	}
	end_guest(&g, thread);
	g = (struct guest){ .at = word(r, 0) };
	data = 0;
	thread = start_guest(&g, look);
	for (u32 i = 0; i < 20000; i++)
		run_batch(r, &(struct op_batch){ .ops = writes, .count = 3, .data = (u8 *)&data, .data_size = 8 });
	end_guest(&g, thread);
	assert_int_equal(g.torn, 0);
}

/* The guest counts in the word whose highest bit is set again and again: no count is lost. */
static void bits_are_set_while_the_guest_changes_others(void **state)
{
	struct rig *r = *state;
	struct guest g = { .at = word(r, 0) };
	const struct op op = on(KERNEL_OP_OR, AT, 4, 0x80000000);
	pthread_t thread = start_guest(&g, count_low_half);

	// As long as it takes for both to run at the same time, for a while.
	while (__atomic_load_n(&g.turns, __ATOMIC_SEQ_CST) < 5000000)
		run(r, &op, 1, false);
	end_guest(&g, thread);
	assert_true(g.turns < 0x80000000);
	assert_int_equal((u32)*word(r, 0), 0x80000000 + g.turns);
}

static void what_cannot_be_done_at_once_wants_a_frozen_guest(void **state)
{
	struct rig *r = *state;
	u8 data[16] = "0123456789abcdef";
	const struct op ops[] = {
		read_of(AT + 1, 8),
		write_of(AT + 2, 4, 1),
		on(KERNEL_OP_OR, AT + 2, 4, 1),
		{ .op = KERNEL_OP_WRITE, .start = AT, .size = 16, .is_bytes = 1 },
		{ .op = KERNEL_OP_WRITE, .start = AT + 4, .size = 8, .is_bytes = 1 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(ops); i++) {
		struct op_batch b = { .ops = &ops[i], .count = 1, .data = data, .data_size = 16 };
		struct outcome o = run_batch(r, &b);

		assert_int_equal(o.done, 0);
		assert_int_equal(o.code, ERROR_RUNNING);
		b.frozen = true;
		assert_int_equal(run_batch(r, &b).done, 1);
	}
	assert_memory_equal(at(r, DATA), "0123"
					 "01234567"
					 "cdef",
			    16);

	const struct op aligned = { .op = KERNEL_OP_WRITE, .start = AT + 8, .size = 4, .data = 10, .is_bytes = 1 };
	struct op_batch b = { .ops = &aligned, .count = 1, .data = data, .data_size = 16 };

	assert_int_equal(run_batch(r, &b).done, 1);
	assert_memory_equal(at(r, DATA + 8), "abcd", 4);
}

static void bytes_cross_pages_and_are_written_all_or_none(void **state)
{
	struct rig *r = *state;
	u8 data[64];
	struct op op = { .op = KERNEL_OP_READ, .start = VMALLOC + 0xff0, .size = 32, .data = 32, .is_bytes = 1 };
	struct op_batch b = { .ops = &op, .count = 1, .data = data, .data_size = sizeof(data), .frozen = true };

	map_torn_pages(r);
	memset(at(r, HOLE_START - 16), 'a', 16);
	memset(at(r, HOLE_END), 'b', 16);
	memset(data, 0, sizeof(data));
	assert_int_equal(run_batch(r, &b).done, 1);
	assert_memory_equal(data + 31, "\0aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb", 33);

	op.op = KERNEL_OP_WRITE;
	memset(data, 'c', sizeof(data));
	assert_int_equal(run_batch(r, &b).done, 1);
	assert_int_equal(*at(r, HOLE_START - 1), 'c');
	assert_int_equal(*at(r, HOLE_END), 'c');
	/* Behind the second page there is none. */
	op.start = VMALLOC + 0x1ff0;
	*at(r, HOLE_END + 0xff0) = 'x';
	assert_int_equal(run_batch(r, &b).code, ERROR_UNMAPPED);
	assert_int_equal(*at(r, HOLE_END + 0xff0), 'x');
}

/* --- per-CPU --- */

static const struct op_layout two_cpus = { .offsets = OFFSETS, .unset = 77, .cpus = 2 };

static void per_cpu_operands_are_the_cpus_own(void **state)
{
	struct rig *r = *state;
	const struct op of_first = {
		.op = KERNEL_OP_READ,
		.base = OP_BASE_PER_CPU,
		.start = PER_CPU_START,
		.offset = 8,
		.size = 8,
	};
	struct op ops[] = {
		of_first,
		of_first,
		{ .op = KERNEL_OP_READ, .base = OP_BASE_PER_CPU, .start = PER_CPU_START, .size = 8, .cpu = 2 },
	};
	struct op_batch b = { .layout = two_cpus, .ops = ops, .count = 3 };
	struct outcome o;

	ops[1].cpu = 1;

	for (u64 cpu = 0; cpu < 2; cpu++) {
		*word(r, 0x800 + 8 * cpu) = AT + 0x1000 * (cpu + 1) - PER_CPU_START;
		*word(r, 0x1000 * (cpu + 1) + 8) = 100 + cpu;
	}
	o = run_batch(r, &b);
	assert_int_equal(o.done, 2);
	assert_int_equal(o.values[0], 100);
	assert_int_equal(o.values[1], 101);
	assert_int_equal(o.code, ERROR_INVALID);
	assert_string_equal(o.message, "there is no CPU 2: the kernel has CPUs 0 to 1");

	for (u64 unset = 0; unset <= 77; unset += 77) {
		*word(r, 0x800) = unset;
		o = run_batch(r, &b);
		assert_int_equal(o.done, 0);
		assert_non_null(strstr(o.message, "has not set up its per-CPU memory yet"));
	}
}

static void pointers_are_followed_and_null_is_the_end(void **state)
{
	struct rig *r = *state;
	const struct op_step steps[] = { { 0 }, { .offset = 8 }, { .offset = 16, .per_cpu = 1 } };
	const struct op op = { .op = KERNEL_OP_READ, .start = AT, .steps = 3, .offset = 4, .size = 4, .cpu = 1 };
	struct op_batch b = { .layout = two_cpus, .ops = &op, .count = 1, .steps = steps, .step_count = 3 };
	struct outcome o;

	*word(r, 0x808) = 0x100;
	*word(r, 0) = AT + 0x40;
	*word(r, 0x48) = AT + 0x80;
	*word(r, 0x90) = AT + 0xc0; // with CPU 1's offset: AT + 0x1c0
	*word(r, 0x1c0) = 0x1234ULL << 32;
	o = run_batch(r, &b);
	assert_int_equal(o.done, 1);
	assert_int_equal(o.values[0], 0x1234);
	*word(r, 0x48) = 0;
	o = run_batch(r, &b);
	assert_int_equal(o.done, 0);
	assert_int_equal(o.code, ERROR_NOT_FOUND);
	assert_non_null(strstr(o.message, "is NULL"));
}

/* A task's path has such a pointer, too: its pid and the CPU are both said. */
static void a_per_cpu_pointer_of_a_task_is_the_cpus(void **state)
{
	struct rig *r = *state;
	const struct op_step step = { .offset = 0x40, .per_cpu = 1 };
	struct op op = { .op = KERNEL_OP_READ, .base = OP_BASE_TASK, .pid = 7, .steps = 1, .offset = 8, .size = 8 };
	struct op_batch b = { .layout = two_cpus, .ops = &op, .count = 1, .steps = &step, .step_count = 1 };

	b.layout.pids = (struct pid_layout){
		.head = AT + 0x900,
		.base = AT + 0x908,
		.slot_bits = 6,
		.pid_tasks = 0x10,
		.task_links = 0x20,
		.task_pid = 0x30,
	};
	*word(r, 0x900) = AT + 0xa00; // the tree has one entry, of the first pid
	*word(r, 0x908) = 7;
	*word(r, 0xa10) = AT + 0xb20;
	*word(r, 0xb30) = 7;
	*word(r, 0xb40) = 0x50;
	for (u32 cpu = 0; cpu < 2; cpu++) {
		*word(r, 0x800 + 8 * cpu) = AT + 0x1000 * (cpu + 1);
		*word(r, 0x1000 * (cpu + 1) + 0x58) = 200 + cpu;
		op.cpu = cpu;
		assert_int_equal(run_batch(r, &b).values[0], 200 + cpu);
	}
	op.pid = 8;
	assert_int_equal(run_batch(r, &b).code, ERROR_NOT_FOUND);
}

/* --- a batch that makes no sense --- */

static void a_batch_that_points_outside_of_itself_is_refused(void **state)
{
	u8 data[8];
	const struct op_step steps[20] = { { .per_cpu = 1 } };
	const struct op wrong[] = {
		{ .op = 0, .size = 8 },
		{ .op = 4, .size = 8 },
		{ .op = KERNEL_OP_READ, .size = 0 },
		{ .op = KERNEL_OP_READ, .size = 3 },
		{ .op = KERNEL_OP_READ, .size = 16 },
		{ .op = KERNEL_OP_READ, .size = 8, .base = 3 },
		{ .op = KERNEL_OP_OR, .size = 8 },
		{ .op = KERNEL_OP_OR, .size = 4, .is_bytes = 1 },
		{ .op = KERNEL_OP_READ, .size = 4, .shift = 30, .bits = 3 },
		{ .op = KERNEL_OP_READ, .size = 8, .shift = 255, .bits = 255 },
		{ .op = KERNEL_OP_READ, .size = 8, .is_bytes = 1, .bits = 1 },
		{ .op = KERNEL_OP_READ, .size = 8, .shift = 1 },
		{ .op = KERNEL_OP_READ, .size = 8, .base = OP_BASE_TASK, .steps = 1 }, // per-CPU, and nothing is
		{ .op = KERNEL_OP_READ, .size = 9, .is_bytes = 1 },
		{ .op = KERNEL_OP_READ, .size = 8, .is_bytes = 1, .data = 1 },
		{ .op = KERNEL_OP_READ, .size = 1, .is_bytes = 1, .data = UINT32_MAX },
		{ .op = KERNEL_OP_READ, .size = 8, .steps = 1, .first_step = 20 },
		{ .op = KERNEL_OP_READ, .size = 8, .steps = 15, .first_step = 6 },
		{ .op = KERNEL_OP_READ, .size = 8, .steps = 2, .first_step = UINT32_MAX },
		{ .op = KERNEL_OP_READ, .size = 8, .steps = 17, .first_step = 1 },
		{ .op = KERNEL_OP_READ, .size = 8, .base = OP_BASE_PER_CPU },
		{ .op = KERNEL_OP_READ, .size = 8, .steps = 1 }, // whose step is per-CPU
	};

	for (u32 i = 0; i < ARRAY_SIZE(wrong); i++) {
		const struct op_batch b = {
			.ops = &wrong[i],
			.count = 1,
			.data = data,
			.data_size = 8,
			.steps = steps,
			.step_count = 20,
		};
		struct error *err = op_batch_check(&b);

		assert_non_null(err);
		assert_int_equal(error_code(err), ERROR_INVALID);
		error_destroy(err);
	}

	struct error *err = op_batch_check(&(struct op_batch){ .count = OPS_MAX + 1 });

	assert_non_null(err);
	error_destroy(err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KNOWN_TEST(words_are_read_and_written_at_each_size),
		KNOWN_TEST(the_first_failure_ends_the_batch_and_what_was_done_stays),
		KNOWN_TEST(setting_bits_leaves_the_others_and_tells_what_was_there),
		KNOWN_TEST(a_bit_field_is_read_written_and_set_without_its_neighbours),
		KNOWN_TEST(a_word_is_never_torn),
		KNOWN_TEST(bits_are_set_while_the_guest_changes_others),
		KNOWN_TEST(what_cannot_be_done_at_once_wants_a_frozen_guest),
		KNOWN_TEST(bytes_cross_pages_and_are_written_all_or_none),
		KNOWN_TEST(per_cpu_operands_are_the_cpus_own),
		KNOWN_TEST(pointers_are_followed_and_null_is_the_end),
		KNOWN_TEST(a_per_cpu_pointer_of_a_task_is_the_cpus),
		cmocka_unit_test(a_batch_that_points_outside_of_itself_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
