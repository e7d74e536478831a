// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/cleanup.h"
#include "coordinator/monitor.h"
#include "core/view_rig.h"

/* A kernel with two CPUs: its table of per-CPU offsets, each CPU's area, a global pointer, what that points to. */
enum {
	CPUS = 2,
	OFFSETS = 0x1000, /* in the image: */
	POINTER = 0x2000,
	COUNTER = 0x2100,
	RUNQUEUE = 0x340, /* a per-CPU symbol */
	AREAS = DATA, /* guest-physical, a page each */
	STRUCT = DATA + 0x10000,
};

#define UNSET (IMAGE + 0x9000)

static void put(struct rig *r, u64 gpa, u64 value)
{
	memcpy(at(r, gpa), &value, sizeof(value));
}

static u64 area(u32 cpu)
{
	return AREAS + cpu * 0x1000;
}

static int setup_kernel(void **state)
{
	setup_known(state);

	struct rig *r = *state;

	for (u32 i = 0; i < CPUS; i++) {
		put(r, IMAGE_PHYS + OFFSETS + 8 * i, DIRECT_MAP + area(i));
		put(r, area(i) + RUNQUEUE, 100 + i);
	}
	put(r, IMAGE_PHYS + COUNTER, 7);
	return 0;
}

static const struct monitor_program program_of_one = {
	.offsets = IMAGE + OFFSETS,
	.unset = UNSET,
	.cpus = CPUS,
	.values = 1,
};

static const struct monitor_cpu cpus[CPUS] = {
	{ .ran_ns = 11, .state = HOST_TIME_WANTS },
	{ .ran_ns = MONITOR_UNKNOWN, .state = HOST_TIME_UNKNOWN },
};

/* A sample taken apart. */
struct taken {
	struct monitor_sample head;
	struct monitor_cpu cpus[CPUS];
	u64 values[8];
	u8 present;
};

static struct taken take_apart(const u8 *data, u32 values)
{
	struct taken t = { 0 };

	memcpy(&t.head, data, sizeof(t.head));
	data += sizeof(t.head);
	memcpy(t.cpus, data, sizeof(t.cpus));
	data += sizeof(t.cpus);
	memcpy(t.values, data, values * sizeof(u64));
	t.present = data[values * sizeof(u64)];
	return t;
}

static struct taken newest(struct monitor *m, u32 values)
{
	u8 data[512];

	assert_true(monitor_sample_size(m) <= sizeof(data));
	assert_int_equal(monitor_copy(m, monitor_counts(m).taken - 1, data, sizeof(data)), 1);
	return take_apart(data, values);
}

static struct taken sample(struct rig *r, const struct monitor_cell *cells, u32 count, const struct monitor_step *steps,
			   u32 step_count, u32 values)
{
	struct monitor_program program = program_of_one;
	struct monitor *m;

	program.values = values;
	assert_no_error(monitor_create(&r->view, &program, cells, count, steps, step_count, 1, &m));
	monitor_take(m, 5, 3, cpus);

	struct taken t = newest(m, values);

	monitor_put(m);
	return t;
}

/* --- what a sample says --- */

static void a_sample_has_its_times_and_the_hosts(void **state)
{
	const struct monitor_cell cell = { .start = IMAGE + COUNTER, .cpu = MONITOR_NO_CPU, .size = 8 };
	struct taken t = sample(*state, &cell, 1, NULL, 0, 1);

	assert_int_equal(t.head.number, 0);
	assert_int_equal(t.head.elapsed_ns, 5);
	assert_int_equal(t.head.epoch, 3);
	assert_true(t.head.host_ns > 0);
	assert_memory_equal(t.cpus, cpus, sizeof(cpus));
	assert_int_equal(t.values[0], 7);
	assert_int_equal(t.present, 1);
}

static void each_cpu_has_its_own_part(void **state)
{
	struct monitor_cell cells[CPUS];

	for (u32 i = 0; i < CPUS; i++)
		cells[i] = (struct monitor_cell){
			.start = RUNQUEUE, .cpu = i, .value = i, .size = 8, .flags = MONITOR_PER_CPU
		};

	struct taken t = sample(*state, cells, CPUS, NULL, 0, CPUS);

	assert_int_equal(t.values[0], 100);
	assert_int_equal(t.values[1], 101);
	assert_int_equal(t.present, 3);
}

static void sizes_and_signs_are_kept(void **state)
{
	struct rig *r = *state;
	struct monitor_cell cells[8];
	const u64 bytes = 0xf1f2f3f4f5f6f7f8;

	put(r, IMAGE_PHYS + COUNTER, bytes);
	for (u32 i = 0; i < 8; i++)
		cells[i] = (struct monitor_cell){
			.start = IMAGE + COUNTER,
			.cpu = MONITOR_NO_CPU,
			.value = i,
			.size = (u8)(1 << i % 4),
			.flags = i < 4 ? 0 : MONITOR_SIGNED,
		};

	struct taken t = sample(r, cells, 8, NULL, 0, 8);

	assert_int_equal(t.values[0], 0xf8);
	assert_int_equal(t.values[1], 0xf7f8);
	assert_int_equal(t.values[2], 0xf5f6f7f8);
	assert_int_equal(t.values[3], bytes);
	assert_int_equal((s64)t.values[4], (s8)0xf8);
	assert_int_equal((s64)t.values[5], (s16)0xf7f8);
	assert_int_equal((s64)t.values[6], (s32)0xf5f6f7f8);
	assert_int_equal(t.values[7], bytes);
}

static void pointers_are_followed_also_per_cpu_ones(void **state)
{
	struct rig *r = *state;
	const struct monitor_step steps[] = { { .offset = 0 }, { .offset = 0x18, .per_cpu = 1 } };
	const struct monitor_cell cells[] = {
		{ .start = IMAGE + POINTER, .offset = 8, .cpu = MONITOR_NO_CPU, .value = 0, .steps = 1, .size = 4 },
		{ .start = IMAGE + POINTER, .cpu = 0, .value = 1, .steps = 2, .size = 8 },
		{ .start = IMAGE + POINTER, .cpu = 1, .value = 2, .steps = 2, .size = 8 },
		{ .start = IMAGE + POINTER, .offset = 16, .cpu = 1, .value = 3, .steps = 2, .size = 8 },
	};

	put(r, IMAGE_PHYS + POINTER, DIRECT_MAP + STRUCT);
	put(r, STRUCT + 8, 42);
	put(r, STRUCT + 0x18, RUNQUEUE);
	put(r, area(1) + RUNQUEUE + 16, 77);

	struct taken t = sample(r, cells, 4, steps, 2, 4);

	assert_int_equal(t.present, 0xf);
	assert_int_equal(t.values[0], 42);
	assert_int_equal(t.values[1], 100);
	assert_int_equal(t.values[2], 101);
	assert_int_equal(t.values[3], 77);
}

static void cells_of_one_value_are_its_sum(void **state)
{
	struct monitor_cell cells[CPUS];

	for (u32 i = 0; i < CPUS; i++)
		cells[i] = (struct monitor_cell){ .start = RUNQUEUE, .cpu = i, .size = 8, .flags = MONITOR_PER_CPU };
	assert_int_equal(sample(*state, cells, CPUS, NULL, 0, 1).values[0], 201);

	// Without a part there is no sum, and no half of one.
	cells[1] = (struct monitor_cell){ .start = 0x1000, .cpu = MONITOR_NO_CPU, .size = 8 };

	struct taken t = sample(*state, cells, CPUS, NULL, 0, 1);

	assert_int_equal(t.present, 0);
	assert_int_equal(t.values[0], 0);
}

static void what_cannot_be_read_is_absent(void **state)
{
	struct rig *r = *state;
	const struct monitor_step steps[] = { { .offset = 0 } };
	const struct monitor_cell cells[] = {
		{ .start = IMAGE + POINTER, .cpu = MONITOR_NO_CPU, .value = 0, .steps = 1, .size = 8 }, // NULL
		{ .start = IMAGE + COUNTER, .cpu = MONITOR_NO_CPU, .value = 1, .size = 8 },
		{ .start = IMAGE + POINTER + 8, .cpu = MONITOR_NO_CPU, .value = 2, .steps = 1, .size = 8 }, // wild
		{ .start = 0xdead00000000, .cpu = MONITOR_NO_CPU, .value = 3, .size = 8 },
		{ .start = UINT64_MAX, .cpu = MONITOR_NO_CPU, .value = 4, .size = 8 },
		{ .start = VMALLOC, .cpu = MONITOR_NO_CPU, .value = 6, .size = 8 }, // its page lies nowhere
	};

	put(r, IMAGE_PHYS + POINTER + 8, 0x8000000000000000);
	map_page(&r->tables, VMALLOC, 1ULL << 40, 1);

	// Value 5 has no cell.
	struct taken t = sample(r, cells, ARRAY_SIZE(cells), steps, 1, 7);

	assert_int_equal(t.present, 1 << 1);
	assert_int_equal(t.values[1], 7);
	for (u32 i = 0; i < 7; i++)
		if (i != 1)
			assert_int_equal(t.values[i], 0);
}

static void a_sample_from_before_the_per_cpu_areas_is_left_out(void **state)
{
	struct rig *r = *state;
	const struct monitor_cell cell = { .start = RUNQUEUE, .cpu = 1, .size = 8, .flags = MONITOR_PER_CPU };
	const u64 unset[] = { 0, UNSET };
	struct monitor *m;

	assert_no_error(monitor_create(&r->view, &program_of_one, &cell, 1, NULL, 0, 4, &m));
	for (u32 i = 0; i < ARRAY_SIZE(unset); i++) {
		put(r, IMAGE_PHYS + OFFSETS + 8, unset[i]);
		monitor_take(m, i, 0, cpus);
		assert_int_equal(monitor_counts(m).early, i + 1);
		assert_int_equal(monitor_counts(m).taken, 0);
	}
	put(r, IMAGE_PHYS + OFFSETS + 8, DIRECT_MAP + area(1));
	monitor_take(m, 9, 0, cpus);
	assert_int_equal(monitor_counts(m).taken, 1);
	assert_int_equal(newest(m, 1).values[0], 101);
	monitor_put(m);
}

static void a_cpu_that_is_not_looked_at_need_not_be_set_up(void **state)
{
	struct rig *r = *state;
	const struct monitor_cell cell = { .start = RUNQUEUE, .cpu = 1, .size = 8, .flags = MONITOR_PER_CPU };

	put(r, IMAGE_PHYS + OFFSETS, 0);
	assert_int_equal(sample(r, &cell, 1, NULL, 0, 1).values[0], 101);
}

static void a_freeze_of_the_original_view_does_not_matter(void **state)
{
	struct rig *r = *state;
	const struct monitor_cell cell = { .start = IMAGE + COUNTER, .cpu = MONITOR_NO_CPU, .size = 8 };
	const u32 expirations = 1;

	// Frozen by main, and thawed by a limit that main has not been told of.
	r->view.expirations_now = &expirations;
	view_freeze(&r->view, 0);
	assert_int_equal(sample(r, &cell, 1, NULL, 0, 1).values[0], 7);
}

/* --- what makes no sense --- */

static void a_program_that_makes_no_sense_is_refused(void **state)
{
	struct rig *r = *state;
	const struct monitor_step steps[] = { { .per_cpu = 1 }, { .offset = 8 } };
	const struct {
		struct monitor_cell cell;
		const char *message;
	} wrong[] = {
		{ { .cpu = MONITOR_NO_CPU, .size = 3 }, "cell 0: its size" },
		{ { .cpu = MONITOR_NO_CPU, .size = 8, .value = 1 }, "no such value" },
		{ { .cpu = CPUS, .size = 8 }, "no such CPU" },
		{ { .cpu = 0, .size = 8, .first_step = 1, .steps = 2 }, "no such steps" },
		{ { .cpu = 0, .size = 8, .first_step = 3 }, "no such steps" },
		{ { .cpu = 0, .size = 8, .first_step = UINT32_MAX, .steps = 2 }, "no such steps" },
		{ { .cpu = 0, .size = 8, .steps = MONITOR_STEPS_MAX + 1 }, "no such steps" },
		{ { .cpu = MONITOR_NO_CPU, .size = 8, .flags = MONITOR_PER_CPU }, "per-CPU of no CPU" },
		{ { .cpu = MONITOR_NO_CPU, .size = 8, .steps = 1 }, "per-CPU of no CPU" },
	};
	struct monitor *m;

	for (u32 i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_error(monitor_create(&r->view, &program_of_one, &wrong[i].cell, 1, steps, 2, 1, &m),
			     ERROR_INVALID, wrong[i].message);

	const struct monitor_cell good = { .cpu = 0, .size = 8 };

	assert_error(monitor_create(&r->view, &program_of_one, &good, 1, steps, 2, 0, &m), ERROR_INVALID, "0 samples");
	assert_error(monitor_create(&r->view, &program_of_one, &good, 1, steps, 2, UINT32_MAX, &m), ERROR_INVALID,
		     "a monitor keeps 1 to");
	assert_error(monitor_create(&r->view, &program_of_one, &good, MONITOR_CELLS_MAX + 1, steps, 2, 1, &m),
		     ERROR_INVALID, "at most");
}

/* --- the ring --- */

static struct monitor *counting(struct rig *r, u32 capacity)
{
	const struct monitor_cell cell = { .start = IMAGE + COUNTER, .cpu = MONITOR_NO_CPU, .size = 8 };
	struct monitor *m;

	assert_no_error(monitor_create(&r->view, &program_of_one, &cell, 1, NULL, 0, capacity, &m));
	return m;
}

static void a_full_ring_drops_the_oldest_and_counts_them(void **state)
{
	struct rig *r = *state;
	struct monitor *m = counting(r, 3);
	size_t size = monitor_sample_size(m);
	CLEANUP_FREE u8 *data = malloc(4 * size);

	assert_int_equal(monitor_copy(m, 0, data, 4 * size), 0);
	for (u32 i = 0; i < 5; i++) {
		put(r, IMAGE_PHYS + COUNTER, i);
		monitor_take(m, i, 0, cpus);
		monitor_skip_frozen(m);
	}
	assert_int_equal(monitor_copy(m, 0, data, 4 * size), 3);
	for (u32 i = 0; i < 3; i++) {
		struct taken t = take_apart(data + i * size, 1);

		assert_int_equal(t.head.number, i + 2);
		assert_int_equal(t.values[0], i + 2);
	}

	struct monitor_counts counts = monitor_counts(m);

	assert_int_equal(counts.taken, 5);
	assert_int_equal(counts.dropped, 2);
	assert_int_equal(counts.frozen, 5);
	assert_int_equal(counts.early, 0);
	// A part at a time: what fits, from where it was left.
	assert_int_equal(monitor_copy(m, 0, data, 2 * size - 1), 1);
	assert_int_equal(take_apart(data, 1).head.number, 2);
	assert_int_equal(monitor_copy(m, 3, data, 4 * size), 2);
	assert_int_equal(take_apart(data, 1).head.number, 3);
	assert_int_equal(monitor_copy(m, 5, data, 4 * size), 0);
	assert_int_equal(monitor_copy(m, UINT64_MAX, data, 4 * size), 0);
	monitor_put(m);
}

static void the_last_one_to_put_it_back_frees_it(void **state)
{
	struct monitor *m = counting(*state, 1);

	assert_true(monitor_is_alone(m));
	assert_ptr_equal(monitor_get(m), m);
	assert_false(monitor_is_alone(m));
	monitor_put(m);
	assert_true(monitor_is_alone(m));
	monitor_put(m);
	monitor_put(NULL);
}

enum { ROUNDS = 20000 };

struct race {
	struct rig *rig;
	struct monitor *monitor;
	bool over;
};

/* As the coordinator, beside a guest that writes. */
static void *sampler_main(void *arg)
{
	struct race *race = arg;
	u64 *counter = (u64 *)at(race->rig, IMAGE_PHYS + COUNTER);

	for (u64 i = 0; i < ROUNDS; i++) {
		__atomic_store_n(counter, i * 0x100000001, __ATOMIC_RELAXED);
		monitor_take(race->monitor, i, 0, cpus);
	}
	__atomic_store_n(&race->over, true, __ATOMIC_RELEASE);
	monitor_put(race->monitor);
	return NULL;
}

static void main_reads_whole_samples_while_they_are_taken(void **state)
{
	struct race race = { .rig = *state, .monitor = counting(*state, 16) };
	struct monitor *m = monitor_get(race.monitor);
	size_t size = monitor_sample_size(m);
	CLEANUP_FREE u8 *data = malloc(16 * size);
	pthread_t thread;
	u64 next = 0;
	bool over;

	assert_int_equal(pthread_create(&thread, NULL, sampler_main, &race), 0);
	do {
		over = __atomic_load_n(&race.over, __ATOMIC_ACQUIRE);

		u32 count = monitor_copy(m, next, data, 16 * size);

		for (u32 i = 0; i < count; i++) {
			struct taken t = take_apart(data + i * size, 1);

			assert_true(t.head.number >= next);
			assert_int_equal(t.head.elapsed_ns, t.head.number);
			assert_int_equal(t.values[0], t.head.number * 0x100000001);
			next = t.head.number + 1;
		}
	} while (!over);
	assert_int_equal(next, ROUNDS);
	assert_int_equal(monitor_counts(m).dropped, ROUNDS - 16);
	pthread_join(thread, NULL);
	monitor_put(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_kernel, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_sample_has_its_times_and_the_hosts),
		TEST(each_cpu_has_its_own_part),
		TEST(sizes_and_signs_are_kept),
		TEST(pointers_are_followed_also_per_cpu_ones),
		TEST(cells_of_one_value_are_its_sum),
		TEST(what_cannot_be_read_is_absent),
		TEST(a_sample_from_before_the_per_cpu_areas_is_left_out),
		TEST(a_cpu_that_is_not_looked_at_need_not_be_set_up),
		TEST(a_freeze_of_the_original_view_does_not_matter),
		TEST(a_program_that_makes_no_sense_is_refused),
		TEST(a_full_ring_drops_the_oldest_and_counts_them),
		TEST(the_last_one_to_put_it_back_frees_it),
		TEST(main_reads_whole_samples_while_they_are_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
