/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A piece of guest memory without page tables, and plans that are run over it at once.
 * Depends on plan_builder.h and capture/plan.h; included after cmocka.h.
 * When a plan has been run the memory is overwritten: what a record then has is what it recorded.
 */
#ifndef TESTS_CORE_PLAN_RIG_H
#define TESTS_CORE_PLAN_RIG_H

#include <stdlib.h>
#include <string.h>

#include "capture/plan.h"
#include "core/plan_builder.h"

#define BASE 0xffff888000000000ULL
enum { SIZE = 64 << 10 };

struct rig {
	struct guest_memory memory;
	struct view view;
	struct record *record;
	struct view recorded;
};

static inline int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_null(guest_memory_init(&r->memory, 2 << 20, 3ULL << 30, 4ULL << 30));
	r->view = (struct view){ .memory = &r->memory, .generation = 1, .frozen = 1, .levels = 4, .slide = 0x1000 };
	r->view.ranges[0] = (struct view_range){ BASE, SIZE, 0, r->memory.base };
	*state = r;
	return 0;
}

static inline int teardown(void **state)
{
	struct rig *r = *state;

	record_put(r->record);
	guest_memory_deinit(&r->memory);
	free(r);
	return 0;
}

static inline void put(struct rig *r, u64 offset, u64 value)
{
	memcpy(r->memory.base + offset, &value, sizeof(value));
}

static inline struct plan *make_plan(struct plan_header header, const struct plan_op *ops, u32 count)
{
	struct buf bytes = build_plan_bytes(header, ops, count);
	struct plan *p;

	assert_null(buf_check(&bytes));
	assert_null(plan_create(bytes.data, bytes.size, &p));
	buf_deinit(&bytes);
	return p;
}

static inline void run_with(struct rig *r, struct plan_header header, const struct plan_op *ops, u32 count)
{
	struct plan *p = make_plan(header, ops, count);
	struct plan_run *run;

	record_put(r->record);
	r->record = NULL;
	assert_null(plan_run_create(p, 0, &run));
	plan_run_execute(run, &r->view);
	assert_null(plan_run_finish(run, &r->record));
	plan_put(p);
	record_open_view(r->record, &r->recorded);
	// What was recorded is that moment's.
	memset(r->memory.base, 0xee, SIZE);
}

#define RUN(r, ...)                                                             \
	do {                                                                    \
		const struct plan_op ops_[] = { __VA_ARGS__ };                  \
		run_with(r, (struct plan_header){ 0 }, ops_, ARRAY_SIZE(ops_)); \
	} while (0)

static inline u64 word(struct rig *r, u64 offset)
{
	u64 value = 0;
	struct error *err = view_read_scalar(&r->recorded, BASE + offset, 8, &value);

	if (err)
		fail_msg("%s", error_message(err));
	return value;
}

static inline void assert_missing(struct rig *r, u64 offset)
{
	u64 value;
	struct error *err = view_read_scalar(&r->recorded, BASE + offset, 1, &value);

	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_UNMAPPED);
	error_destroy(err);
}

static inline void assert_notes(struct rig *r, const char *expected)
{
	assert_string_equal((const char *)r->record->notes.data, expected);
}

#define AT(tree)                                          \
	{                                                 \
		.kind = PLAN_AT, .below = tree, .a = BASE \
	}
#define COPY(offset, size)                                \
	{                                                 \
		.kind = PLAN_COPY, .a = offset, .b = size \
	}

static inline void assert_code(struct error *err, enum error_code code)
{
	assert_non_null(err);
	assert_int_equal(error_code(err), code);
	error_destroy(err);
}

#endif
