// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Walks stacks of any words, from any registers, with a table that has every kind of entry. The input: where it
 * begins, then the stack's words, each a byte that picks what it is (code, a place on this stack or on the other one,
 * anything) and what that needs.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/orc_builder.h"
#include "base/buf.h"
#include "kernel/unwind.h"

#define TEXT 0xffffffff81000000ULL
#define STACK_A 0xffffc90000010000ULL
#define STACK_B 0xffffc90000003000ULL

enum { STACK = 4 << 10,
       FUNCTION = 0x10,
       WORDS = STACK / 8 };

/* Each type with each register, FUNCTION bytes apart. */
static struct orc *make_table(void)
{
	struct orc_code code[ORC_BUILDER_MAX];
	struct orc *orc;
	u32 count = 0;

	for (u32 type = ORC_NONE; type <= ORC_REGS_PARTIAL; type++) {
		for (u32 reg = 0; reg < ORC_REGISTERS; reg++) {
			const struct orc_entry entry = {
				.type = type,
				.sp_reg = reg,
				.sp_offset = count % 3 ? 8 * (s32)(count % 5) : -8,
				.bp_reg = count % 8 == 7 ? reg : count % 2 ? ORC_PREV_SP :
									     ORC_UNDEFINED,
				.bp_offset = -16,
				.signal = type >= ORC_REGS,
			};

			code[count] = (struct orc_code){ TEXT + (u64)FUNCTION * count, entry };
			count++;
		}
	}
	code[count] = (struct orc_code){ TEXT + (u64)FUNCTION * count, { .type = ORC_NONE } };
	if (build_orc(code, count + 1, TEXT + 0x10000, &orc_dialects[ORC_NEWEST], &orc))
		abort();
	return orc;
}

static u64 take_word(struct reader *r)
{
	switch (reader_get_u8(r) % 6) {
	case 0:
		return TEXT + reader_get_u16(r) % (FUNCTION * ORC_BUILDER_MAX);
	case 1:
		return STACK_A + reader_get_u16(r) % STACK;
	case 2:
		return STACK_B + reader_get_u16(r) % STACK / 8 * 8;
	case 3:
		return STACK_A + reader_get_u16(r) % STACK / 8 * 8;
	case 4:
		return reader_get_u8(r); /* small: a code segment, among others */
	default:
		return reader_get_u64(r);
	}
}

static void check(const struct unwind_result *result)
{
	if (result->count > UNWIND_FRAMES || result->end > UNWIND_LOOP)
		abort();
	for (u32 i = 1; i < result->count; i++)
		if (result->frames[i].sp % 8 || !(result->frames[i].sp >> 63))
			abort();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct orc *orc;
	static struct guest_memory memory;
	struct reader r = reader_init(data, size);

	if (!orc) {
		orc = make_table();
		if (guest_memory_init(&memory, 2 << 20, 3ULL << 30, 4ULL << 30))
			abort();
	}

	u64 *words = (u64 *)(memory.base + 0x10000);
	struct view view = { .memory = &memory, .generation = 1, .levels = 4 };
	const struct unwind_table tables[] = { { orc, 0 } };
	const struct unwind_stack stacks[] = { { STACK_A, STACK_A + STACK }, { STACK_B, STACK_B + STACK } };
	u8 how = reader_get_u8(&r);
	const struct unwind u = {
		.view = &view, .tables = tables, .table_count = 1, .stacks = stacks, .stack_count = how % 3
	};
	const struct unwind_start start = {
		.ip = take_word(&r),
		.sp = take_word(&r),
		.bp = take_word(&r),
		.r10 = take_word(&r),
		.has_all = how & 0x40,
		.returns = how & 0x80,
	};
	struct unwind_result result;

	view.ranges[0] = (struct view_range){ STACK_A, STACK, 0x10000, memory.base + 0x10000 };
	view.ranges[1] = (struct view_range){ STACK_B, STACK, 0x10000 + STACK, memory.base + 0x10000 + STACK };
	/* What the input has not is filled with its words again. */
	u32 given = 0;

	for (; given < 2 * WORDS && reader_left(&r); given++)
		words[given] = take_word(&r);
	for (u32 i = given; i < 2 * WORDS; i++)
		words[i] = given ? words[i % given] : 0;
	unwind_stack(&u, &start, &result);
	check(&result);
	return 0;
}
