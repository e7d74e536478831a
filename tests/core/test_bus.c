// SPDX-License-Identifier: GPL-2.0-or-later
#include "device_fixture.h"

// Remembers its last access.
struct probe {
	u64 offset, value;
	u32 size, reads, writes;
};

static void probe_read(void *device, u64 offset, void *data, u32 size)
{
	struct probe *p = device;

	p->offset = offset;
	p->size = size;
	p->reads++;
	memcpy(data, &p->value, size);
}

static void probe_write(void *device, u64 offset, const void *data, u32 size)
{
	struct probe *p = device;

	p->offset = offset;
	p->size = size;
	p->writes++;
	p->value = 0;
	memcpy(&p->value, data, size);
}

static const struct device_ops probe_ops = { .name = "probe", .read = probe_read, .write = probe_write };

static void an_access_reaches_the_device_that_claims_it(void **state)
{
	struct bus bus;
	struct probe low = { .value = 0x11 }, high = { .value = 0x22 };
	u32 value = 0x5678;

	assert_fine(bus_init(&bus));
	assert_fine(bus_add(&bus, 0x2000, 0x100, &probe_ops, &high));
	assert_fine(bus_add(&bus, 0x1000, 0x100, &probe_ops, &low));
	assert_true(bus_write(&bus, 0x10fc, &value, 4));
	assert_int_equal(low.offset, 0xfc);
	assert_int_equal(low.value, 0x5678);
	assert_true(bus_read(&bus, 0x2001, &value, 1));
	assert_int_equal(high.offset, 1);
	assert_int_equal(value, 0x5622);
	bus_deinit(&bus);
}

static void an_access_nobody_claims_whole_reads_as_ones(void **state)
{
	static const struct {
		u64 addr;
		u32 size;
	} misses[] = {
		{ 0xfff, 1 },
		{ 0xfff, 2 },
		{ 0x10ff, 2 },
		{ 0x1100, 1 },
		{ 0, 8 },
		{ UINT64_MAX, 1 },
		{ UINT64_MAX - 3, 8 },
		{ 0x10fd, 4 },
	};
	struct bus bus;
	struct probe p = { 0 };

	assert_fine(bus_init(&bus));
	assert_fine(bus_add(&bus, 0x1000, 0x100, &probe_ops, &p));
	for (size_t i = 0; i < ARRAY_SIZE(misses); i++) {
		u64 value = 0, ones = misses[i].size == 8 ? UINT64_MAX : (1ULL << 8 * misses[i].size) - 1;

		assert_false(bus_read(&bus, misses[i].addr, &value, misses[i].size));
		assert_true(value == ones);
		assert_false(bus_write(&bus, misses[i].addr, &value, misses[i].size));
	}
	assert_int_equal(p.reads + p.writes, 0);
	bus_deinit(&bus);
}

static void the_last_address_can_be_claimed(void **state)
{
	struct bus bus;
	struct probe p = { .value = 0x7f };
	u8 value;

	assert_fine(bus_init(&bus));
	assert_fine(bus_add(&bus, UINT64_MAX - 0xff, 0x100, &probe_ops, &p));
	assert_true(bus_read(&bus, UINT64_MAX, &value, 1));
	assert_int_equal(value, 0x7f);
	bus_deinit(&bus);
}

static void overlapping_and_impossible_ranges_are_refused(void **state)
{
	static const struct {
		u64 start, size;
	} bad[] = {
		{ 0x1000, 0x100 },
		{ 0xfff, 2 },
		{ 0x10ff, 1 },
		{ 0, 0x100000 },
		{ 0x1080, 1 },
		{ 0x5000, 0 },
		{ UINT64_MAX, 2 },
	};
	struct bus bus;
	struct probe p = { 0 };

	assert_fine(bus_init(&bus));
	assert_fine(bus_add(&bus, 0x1000, 0x100, &probe_ops, &p));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_error(bus_add(&bus, bad[i].start, bad[i].size, &probe_ops, &p), ERROR_INVALID);
	assert_fine(bus_add(&bus, 0xfff, 1, &probe_ops, &p));
	assert_fine(bus_add(&bus, 0x1100, 1, &probe_ops, &p));
	bus_deinit(&bus);
}

static void many_ranges_are_all_found(void **state)
{
	struct bus bus;
	struct probe probes[100];
	u8 value;

	assert_fine(bus_init(&bus));
	for (u32 i = 0; i < 100; i++) {
		u32 n = i * 37 % 100; // in no order

		probes[n] = (struct probe){ .value = n };
		assert_fine(bus_add(&bus, n * 16, 8, &probe_ops, &probes[n]));
	}
	for (u32 n = 0; n < 100; n++) {
		assert_true(bus_read(&bus, n * 16 + 7, &value, 1));
		assert_int_equal(value, n);
		assert_false(bus_read(&bus, n * 16 + 8, &value, 1));
	}
	for (u32 n = 0; n < 100; n += 2)
		assert_true(bus_remove(&bus, n * 16));
	for (u32 n = 0; n < 100; n++)
		assert_int_equal(bus_read(&bus, n * 16, &value, 1), n % 2);
	bus_deinit(&bus);
}

static void a_range_is_removed_by_its_start_alone(void **state)
{
	struct bus bus;
	struct probe p = { 0 };
	u8 value = 0;

	assert_fine(bus_init(&bus));
	assert_fine(bus_add(&bus, 0x1000, 0x100, &probe_ops, &p));
	assert_false(bus_remove(&bus, 0x1001));
	assert_false(bus_remove(&bus, 0x2000));
	assert_true(bus_remove(&bus, 0x1000));
	assert_false(bus_remove(&bus, 0x1000));
	assert_false(bus_read(&bus, 0x1000, &value, 1));
	bus_deinit(&bus);
}

// Moves to its other place whenever it is written.
struct mover {
	struct bus *bus;
	u64 at;
	u32 value;
};

static void mover_read(void *device, u64 offset, void *data, u32 size)
{
	memcpy(data, &((struct mover *)device)->value, size);
}

static void mover_write(void *device, u64 offset, const void *data, u32 size);

static const struct device_ops mover_ops = { .name = "mover", .read = mover_read, .write = mover_write };

static void mover_write(void *device, u64 offset, const void *data, u32 size)
{
	struct mover *m = device;

	assert_true(bus_remove(m->bus, m->at));
	m->at ^= 0x10000;
	assert_fine(bus_add(m->bus, m->at, 0x1000, &mover_ops, m));
}

struct onlooker {
	struct bus *bus;
	bool stop;
	u32 wrong, seen;
};

static void *look_all_the_time(void *arg)
{
	struct onlooker *o = arg;

	while (!__atomic_load_n(&o->stop, __ATOMIC_ACQUIRE)) {
		for (u32 i = 0; i < 2; i++) {
			u32 value = 0;
			bool found = bus_read(o->bus, 0x100000 + 0x10000 * i, &value, 4);

			if (value != (found ? 0xabcd : UINT32_MAX))
				o->wrong++;
			if (found)
				__atomic_add_fetch(&o->seen, 1, __ATOMIC_RELEASE);
		}
	}
	return NULL;
}

static void a_device_moves_itself_from_its_own_write_while_others_read(void **state)
{
	struct bus bus;
	struct mover m = { .bus = &bus, .at = 0x100000, .value = 0xabcd };
	struct onlooker o = { .bus = &bus };
	pthread_t thread;
	u32 moves = 0;

	assert_fine(bus_init(&bus));
	assert_fine(bus_add(&bus, m.at, 0x1000, &mover_ops, &m));
	assert_int_equal(pthread_create(&thread, NULL, look_all_the_time, &o), 0);
	while (moves < 1000 || __atomic_load_n(&o.seen, __ATOMIC_ACQUIRE) < 1000) {
		assert_true(bus_write(&bus, m.at, &moves, 4));
		moves++;
	}
	__atomic_store_n(&o.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	assert_int_equal(o.wrong, 0);
	assert_int_equal(m.at, moves % 2 ? 0x110000 : 0x100000);
	bus_deinit(&bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_access_reaches_the_device_that_claims_it),
		cmocka_unit_test(an_access_nobody_claims_whole_reads_as_ones),
		cmocka_unit_test(the_last_address_can_be_claimed),
		cmocka_unit_test(overlapping_and_impossible_ranges_are_refused),
		cmocka_unit_test(many_ranges_are_all_found),
		cmocka_unit_test(a_range_is_removed_by_its_start_alone),
		cmocka_unit_test(a_device_moves_itself_from_its_own_write_while_others_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
