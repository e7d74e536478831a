/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of devices: an interrupt sink that remembers, a power sink that counts, state round trips.
 * Depends on cmocka and core/device.
 * The record's counters are atomic, so that devices may be driven from several threads.
 */
#ifndef TESTS_DEVICE_FIXTURE_H
#define TESTS_DEVICE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "device/bus.h"
#include "device/power.h"

enum { RECORD_VECTORS = 64 };

struct irq_record {
	u32 level, rises, falls; /* of the one line of the device under test */
	u32 gsi;
	struct {
		u64 address;
		u32 data, updates, raised;
		bool masked;
	} vectors[RECORD_VECTORS];
};

static inline void record_level(void *ctx, u32 gsi, bool level)
{
	struct irq_record *r = ctx;

	assert_int_not_equal(r->level, level);
	r->gsi = gsi;
	r->level = level;
	if (level)
		r->rises++;
	else
		r->falls++;
}

static inline void record_update(void *ctx, u32 index, u64 address, u32 data, bool masked)
{
	struct irq_record *r = ctx;

	r->vectors[index].address = address;
	r->vectors[index].data = data;
	r->vectors[index].masked = masked;
	r->vectors[index].updates++;
}

static inline void record_raise(void *ctx, u32 index)
{
	struct irq_record *r = ctx;

	__atomic_add_fetch(&r->vectors[index].raised, 1, __ATOMIC_RELEASE);
}

static inline u32 record_raised(struct irq_record *r, u32 index)
{
	return __atomic_load_n(&r->vectors[index].raised, __ATOMIC_ACQUIRE);
}

static const struct irq_ops record_irq_ops = {
	.set_level = record_level,
	.msix_update = record_update,
	.msix_raise = record_raise,
};

static inline struct irq_sink record_sink(struct irq_record *r)
{
	return (struct irq_sink){ .ops = &record_irq_ops, .ctx = r };
}

struct power_record {
	u32 resets, power_offs;
	const char *by;
};

static inline void record_reset(void *ctx, const char *by)
{
	struct power_record *r = ctx;

	r->resets++;
	r->by = by;
}

static inline void record_power_off(void *ctx)
{
	struct power_record *r = ctx;

	r->power_offs++;
}

static const struct power_ops record_power_ops = { .reset = record_reset, .power_off = record_power_off };

static inline struct power_sink record_power(struct power_record *r)
{
	return (struct power_sink){ .ops = &record_power_ops, .ctx = r };
}

static inline void assert_fine(struct error *err)
{
	if (err)
		fail_msg("%s", error_message(err));
}

static inline void assert_error(struct error *err, enum error_code code)
{
	assert_non_null(err);
	if (error_code(err) != code)
		fail_msg("%s: %s", error_code_name(error_code(err)), error_message(err));
	error_destroy(err);
}

static inline struct buf state_of(const struct device_state_ops *ops, void *device)
{
	struct buf out = BUF_INIT;

	ops->save(device, &out);
	assert_fine(buf_check(&out));
	return out;
}

static inline struct error *load_bytes(const struct device_state_ops *ops, void *device, const void *data,
				       size_t size)
{
	struct reader in = reader_init(data, size);

	return ops->load(device, &in);
}

static inline void assert_state(const struct device_state_ops *ops, void *device, const struct buf *expected)
{
	struct buf now = state_of(ops, device);

	assert_int_equal(now.size, expected->size);
	assert_memory_equal(now.data, expected->data, now.size);
	buf_deinit(&now);
}

/* to takes on from's state; shorter, longer and other versions of it are refused and change nothing. */
static inline void round_trip(const struct device_state_ops *ops, void *from, void *to)
{
	struct buf saved = state_of(ops, from), before = state_of(ops, to);

	for (size_t n = 0; n < saved.size; n++)
		assert_error(load_bytes(ops, to, saved.data, n), ERROR_FORMAT);
	saved.data[0]++;
	assert_error(load_bytes(ops, to, saved.data, saved.size), ERROR_FORMAT);
	saved.data[0]--;
	buf_put_u8(&saved, 0);
	assert_error(load_bytes(ops, to, saved.data, saved.size), ERROR_FORMAT);
	saved.size--;
	assert_state(ops, to, &before);

	assert_fine(load_bytes(ops, to, saved.data, saved.size));
	assert_state(ops, to, &saved);
	buf_deinit(&before);
	buf_deinit(&saved);
}

#endif
