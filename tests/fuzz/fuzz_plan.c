// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs any program over any memory. The input: how many operations there are, what each is, then the memory's words,
 * each a byte that picks what it is and what that needs. What was recorded is looked at afterwards.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/plan_builder.h"

#define BASE 0xffff888000000000ULL

enum { SIZE = 16 << 10,
       WORDS = SIZE / 8,
       OPS = 48,
       RECORD = 64 << 10,
       STEPS = 20000 };

static u64 take_word(struct reader *r)
{
	switch (reader_get_u8(r) % 6) {
	case 0:
		return BASE + reader_get_u16(r) % SIZE;
	case 1:
		return BASE + reader_get_u16(r) % SIZE / 8 * 8;
	case 2:
		return BASE + reader_get_u16(r) % SIZE / 8 * 8 + 2; // a node of an xarray
	case 3:
		return reader_get_u8(r);
	case 4:
		return reader_get_u64(r);
	default:
		return 0;
	}
}

static struct plan_op take_op(struct reader *r, u32 left)
{
	struct plan_op op = {
		.kind = reader_get_u8(r) % PLAN_KINDS,
		.flags = reader_get_u8(r),
		.reg = reader_get_u8(r) % PLAN_REGISTERS,
		.reg2 = reader_get_u8(r) % PLAN_REGISTERS,
		.limit = reader_get_u16(r),
		.path = 5,
	};

	op.below = left ? reader_get_u8(r) % (left + 1) : 0;
	op.a = reader_get_u8(r) & 0x3f;
	op.b = reader_get_u8(r) & 0x7f;
	op.c = reader_get_u8(r);
	switch ((enum plan_kind)op.kind) {
	case PLAN_AT:
		op.a = take_word(r);
		break;
	case PLAN_COPY:
	case PLAN_COPY_SIZED:
		op.below = 0;
		break;
	case PLAN_LOAD:
		op.below = 0;
		op.b = 1U << op.b % 4;
		break;
	case PLAN_RBTREE:
		op.c = 8 | 16 << 16;
		break;
	case PLAN_XARRAY:
		op.c = (8 + 4 * 8) | 8 << 16 | 4ULL << 32;
		break;
	case PLAN_IF_TEXT:
		op.c %= 6;
		break;
	case PLAN_PER_CPU:
		op.a %= 4;
		break;
	case PLAN_STRING:
	case PLAN_PAGES:
		op.below = 0;
		op.limit %= PLAN_STRING_MAX;
		op.c <<= 8;
		break;
	case PLAN_CALC:
		op.below = 0;
		op.a %= CALC_KINDS;
		break;
	default:
		break;
	}
	return op;
}

/* Every byte that it says it has is there, once, and nothing else. */
static void check(const struct record *record)
{
	struct view view;
	u64 before = 0, sum = 0;

	record_open_view(record, &view);
	for (u32 i = 0; i < record->segment_count; i++) {
		const struct view_segment *s = &record->segments[i];
		u64 last;

		if (!s->size || s->data < record->data || s->size > record->size ||
		    s->data + s->size > record->data + record->size || (i && s->address <= before))
			abort();
		before = s->address + (s->size - 1);
		sum += s->size;
		if (view_read_scalar(&view, s->address, 1, &last) || last != s->data[0] ||
		    view_read_scalar(&view, before, 1, &last) || last != s->data[s->size - 1])
			abort();
	}
	if (sum > record->size || record->notes.data[record->notes.size - 1])
		abort();
}

static void run(struct plan *plan, const struct view *view)
{
	struct plan_run *one;
	struct record *record;

	if (plan_run_create(plan, 0, &one))
		abort();
	plan_run_execute(one, view);
	if (plan_run_finish(one, &record))
		abort();
	if (record->steps > STEPS + 2 * OPS)
		abort();
	check(record);
	record_put(record);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct guest_memory memory;
	struct reader r = reader_init(data, size);
	struct plan_op ops[OPS];
	u32 count = reader_get_u8(&r) % OPS + 1;

	if (!memory.base && guest_memory_init(&memory, 2 << 20, 3ULL << 30, 4ULL << 30))
		abort();
	for (u32 i = 0; i < count; i++)
		ops[i] = take_op(&r, count - i - 1);

	struct plan_header header = { .cpus = 4, .percpu_offsets = BASE, .max_bytes = RECORD, .max_steps = STEPS };
	struct buf bytes = build_plan_bytes(header, ops, count);
	u64 *words = (u64 *)memory.base;
	u32 given = 0;

	for (; given < WORDS && reader_left(&r); given++)
		words[given] = take_word(&r);
	for (u32 i = given; i < WORDS; i++)
		words[i] = given ? words[i % given] : 0;

	struct view view = { .memory = &memory, .generation = 1, .frozen = 1, .levels = 4, .root = 0x1000 };
	struct plan *plan = NULL;

	view.ranges[0] = (struct view_range){ BASE, SIZE, 0, memory.base };
	error_destroy(plan_create(bytes.data, bytes.size, &plan));
	if (plan)
		run(plan, &view);
	plan_put(plan);
	// The bytes as they are, too.
	plan = NULL;
	error_destroy(plan_create(data, size, &plan));
	plan_put(plan);
	buf_deinit(&bytes);
	return 0;
}
