// SPDX-License-Identifier: GPL-2.0-or-later
/* Stacks made by hand: calls, interrupts, changes of stack, code without a table, and damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/kvm_fixture.h"
#include "core/orc_builder.h"
#include "kernel/unwind.h"

#define SLIDE 0x12000000ULL
#define TEXT 0xffffffff81000000ULL /* as linked */
#define RUN (TEXT + SLIDE)
#define MODULE 0xffffffffc0200000ULL
#define BPF 0xffffffffc0300000ULL
#define TASK_STACK 0xffffc90000010000ULL
#define IRQ_STACK 0xffffc90000003000ULL /* below: it is left downwards too */

enum {
	STACK = 16 << 10,
	MEMORY = 2 << 20,

	/* Functions, by their offset in the image. */
	LEAF = 0x000, /* nothing pushed */
	PUSHED = 0x100, /* 0x20 bytes pushed */
	FRAMED = 0x200, /* bp is its frame pointer, and saved */
	SAVES_BP = 0x300, /* 0x18 bytes pushed, bp the first of them */
	INTERRUPT = 0x400, /* a struct pt_regs at sp */
	EXCEPTION = 0x500, /* five words at sp */
	TO_IRQ_STACK = 0x600, /* the other stack's pointer is at the top of this one */
	REALIGNED = 0x700, /* r10 is the caller's */
	BOTTOM = 0x800,
	HOLE = 0x900,
	END = 0xa00,
	FIRST_OF_FORK = 0xb00, /* the same as INTERRUPT */
	TEXT_END = 0xc00,
};

#define CALL(...)                             \
	{                                     \
		.type = ORC_CALL, __VA_ARGS__ \
	}

static const struct orc_code code[] = {
	{ TEXT + LEAF, CALL(.sp_reg = ORC_SP, .sp_offset = 8) },
	{ TEXT + PUSHED, CALL(.sp_reg = ORC_SP, .sp_offset = 0x28) },
	{ TEXT + FRAMED, CALL(.sp_reg = ORC_BP, .sp_offset = 16, .bp_reg = ORC_PREV_SP, .bp_offset = -16) },
	{ TEXT + SAVES_BP, CALL(.sp_reg = ORC_SP, .sp_offset = 0x20, .bp_reg = ORC_PREV_SP, .bp_offset = -16) },
	{ TEXT + INTERRUPT, { .type = ORC_REGS, .sp_reg = ORC_SP, .signal = true } },
	{ TEXT + EXCEPTION, { .type = ORC_REGS_PARTIAL, .sp_reg = ORC_SP, .signal = true } },
	{ TEXT + TO_IRQ_STACK, CALL(.sp_reg = ORC_SP_INDIRECT, .sp_offset = 8) },
	{ TEXT + REALIGNED, CALL(.sp_reg = ORC_R10) },
	{ TEXT + BOTTOM, { .type = ORC_END } },
	{ TEXT + HOLE, { .type = ORC_NONE } },
	{ TEXT + END, CALL(.sp_reg = ORC_BP_INDIRECT, .sp_offset = -8) },
	{ TEXT + FIRST_OF_FORK, { .type = ORC_REGS, .sp_reg = ORC_SP, .signal = true } },
	{ TEXT + TEXT_END, { .type = ORC_NONE } },
};

static const struct orc_code module_code[] = {
	{ MODULE, CALL(.sp_reg = ORC_SP, .sp_offset = 16) },
	{ MODULE + 0x100, { .type = ORC_NONE } },
};

struct rig {
	struct guest_memory memory;
	struct view view;
	struct unwind_table tables[2];
	struct unwind_stack stacks[2];
	struct unwind unwind;
	struct unwind_result result;
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct orc *image, *module;

	assert_no_error(guest_memory_init(&r->memory, MEMORY, 3ULL << 30, 4ULL << 30));
	r->view = (struct view){ .memory = &r->memory, .generation = 1, .levels = 4 };
	r->view.ranges[0] = (struct view_range){ TASK_STACK, STACK, 0x10000, r->memory.base + 0x10000 };
	r->view.ranges[1] = (struct view_range){ IRQ_STACK, STACK, 0x20000, r->memory.base + 0x20000 };
	assert_no_error(build_orc(code, ARRAY_SIZE(code), TEXT + 0x100000, &orc_dialects[ORC_NEWEST], &image));
	assert_no_error(build_orc(module_code, ARRAY_SIZE(module_code), MODULE + 0x8000, &orc_dialects[ORC_NEWEST],
				  &module));
	r->tables[0] = (struct unwind_table){ image, SLIDE };
	r->tables[1] = (struct unwind_table){ module, 0 };
	r->stacks[0] = (struct unwind_stack){ TASK_STACK, TASK_STACK + STACK };
	r->stacks[1] = (struct unwind_stack){ IRQ_STACK, IRQ_STACK + STACK };
	r->unwind = (struct unwind){ .view = &r->view, .tables = r->tables, .table_count = 2 };
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	orc_destroy((struct orc *)r->tables[0].orc);
	orc_destroy((struct orc *)r->tables[1].orc);
	guest_memory_deinit(&r->memory);
	free(r);
	return 0;
}

static void put(struct rig *r, u64 address, u64 value)
{
	struct error *err = view_write_scalar(&r->view, address, 8, value);

	assert_no_error(err);
}

/* A struct pt_regs; of user mode with cs 0x33. */
static void put_regs(struct rig *r, u64 at, u64 ip, u64 cs, u64 sp, u64 bp)
{
	for (u32 i = 0; i < 21; i++)
		put(r, at + 8ULL * i, 0x1111111111111111ULL * (i % 15 + 1));
	put(r, at + 32, bp);
	put(r, at + 128, ip);
	put(r, at + 136, cs);
	put(r, at + 152, sp);
}

/* Bottoms out at `at`: as the system call's entry leaves it. */
static void put_user(struct rig *r, u64 at)
{
	put_regs(r, at, 0x7f0000001234, 0x33, 0x7ffd00001000, 0);
}

static const struct unwind_result *run(struct rig *r, u64 ip, u64 sp, u64 bp)
{
	const struct unwind_start start = { .ip = ip, .sp = sp, .bp = bp };

	unwind_stack(&r->unwind, &start, &r->result);
	assert_true(r->result.count <= UNWIND_FRAMES);
	return &r->result;
}

static void expect_frame(const struct unwind_result *result, u32 index, u64 address, u32 flags)
{
	assert_true(index < result->count);
	assert_int_equal(result->frames[index].address, address);
	assert_int_equal(result->frames[index].flags, flags);
}

static void expect_end(const struct unwind_result *result, u32 count, enum unwind_end end, u64 at)
{
	if (result->end != end)
		print_error("ended at 0x%llx: %s\n", (unsigned long long)result->at, unwind_end_text(result->end));
	assert_int_equal(result->end, end);
	assert_int_equal(result->count, count);
	assert_int_equal(result->at, at);
}

static void calls_lead_to_user_mode(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000;

	put(r, sp, RUN + PUSHED + 5); /* leaf was called by pushed */
	put(r, sp + 8 + 0x20, RUN + SAVES_BP + 9); /* that by saves_bp */
	put(r, sp + 0x30 + 0x10, TASK_STACK + 0x1200); /* which saved the caller's frame pointer */
	put(r, sp + 0x30 + 0x18, RUN + FRAMED + 0x20);
	put(r, TASK_STACK + 0x1200, 0xb0b); /* framed's caller's */
	put(r, TASK_STACK + 0x1208, RUN + INTERRUPT + 1);
	put_user(r, TASK_STACK + 0x1210);

	const struct unwind_result *result = run(r, RUN + LEAF + 3, sp, 0xdead);

	expect_frame(result, 0, RUN + LEAF + 3, UNWIND_SIGNAL);
	expect_frame(result, 1, RUN + PUSHED + 5, UNWIND_RETURN);
	expect_frame(result, 2, RUN + SAVES_BP + 9, UNWIND_RETURN);
	expect_frame(result, 3, RUN + FRAMED + 0x20, UNWIND_RETURN);
	expect_frame(result, 4, RUN + INTERRUPT + 1, UNWIND_RETURN);
	assert_int_equal(result->frames[1].sp, sp + 8);
	assert_int_equal(result->frames[4].sp, TASK_STACK + 0x1210);
	expect_end(result, 5, UNWIND_USER, 0x7f0000001234);
	assert_int_equal(result->user_regs, TASK_STACK + 0x1210);
}

static void a_return_address_belongs_to_the_call_before_it(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000;

	/* The call is the last instruction of pushed; the address is framed's first. */
	put(r, sp, RUN + PUSHED + 0x100);
	put(r, sp + 0x28, RUN + BOTTOM + 1);
	expect_end(run(r, RUN + LEAF, sp, 0), 3, UNWIND_BOTTOM, 0);

	/* Likewise where it begins, for a task that gave its CPU away. */
	const struct unwind_start start = { .ip = RUN + PUSHED + 0x100, .sp = sp + 8, .returns = true };

	unwind_stack(&r->unwind, &start, &r->result);
	expect_frame(&r->result, 0, RUN + PUSHED + 0x100, UNWIND_RETURN);
	expect_end(&r->result, 2, UNWIND_BOTTOM, 0);
}

static void a_new_task_begins_at_a_first_instruction(void **state)
{
	struct rig *r = *state;

	/* No return address: the instruction before it is another function's. */
	put_user(r, TASK_STACK + STACK - 168);

	const struct unwind_result *result = run(r, RUN + FIRST_OF_FORK, TASK_STACK + STACK - 168, 0);

	expect_frame(result, 0, RUN + FIRST_OF_FORK, UNWIND_SIGNAL);
	expect_end(result, 1, UNWIND_USER, 0x7f0000001234);
}

static void an_interrupt_is_gone_through_to_what_it_interrupted(void **state)
{
	struct rig *r = *state;
	u64 regs = TASK_STACK + 0x1000, sp = TASK_STACK + 0x1200;

	/* Interrupted in framed, at its first instruction by table: its address is no return address. */
	put_regs(r, regs, RUN + FRAMED, 0x10, sp, sp);
	put(r, sp, 0xb0b);
	put(r, sp + 8, RUN + BOTTOM + 1);

	const struct unwind_result *result = run(r, RUN + INTERRUPT, regs, 0xdead);

	expect_frame(result, 1, RUN + FRAMED, UNWIND_SIGNAL);
	assert_int_equal(result->frames[1].regs, regs);
	assert_int_equal(result->frames[0].regs, 0);
	assert_int_equal(result->frames[2].regs, 0);
	expect_end(result, 3, UNWIND_BOTTOM, 0);
}

static void five_words_of_registers_are_enough(void **state)
{
	struct rig *r = *state;
	u64 frame = TASK_STACK + 0x1000, sp = TASK_STACK + 0x1200;

	put(r, frame, RUN + FRAMED + 1);
	put(r, frame + 8, 0x10);
	put(r, frame + 24, sp);
	put(r, sp + 0x80, 0xb0b);
	put(r, sp + 0x88, RUN + BOTTOM + 1);

	/* bp is still what it was. */
	const struct unwind_result *result = run(r, RUN + EXCEPTION, frame, sp + 0x80);

	expect_frame(result, 1, RUN + FRAMED + 1, UNWIND_SIGNAL);
	assert_int_equal(result->frames[1].regs, frame - 128);
	expect_end(result, 3, UNWIND_BOTTOM, 0);

	put(r, frame + 8, 0x33);
	expect_end(run(r, RUN + EXCEPTION, frame, 0), 1, UNWIND_USER, RUN + FRAMED + 1);
}

static void another_stack_is_gone_back_from(void **state)
{
	struct rig *r = *state;
	u64 top = IRQ_STACK + STACK - 8, sp = TASK_STACK + 0x1000;

	for (u32 given = 0; given < 2; given++) {
		r->unwind.stacks = r->stacks;
		r->unwind.stack_count = given ? 2 : 0;
		put(r, top - 8, RUN + TO_IRQ_STACK + 5);
		put(r, top, sp); /* the other stack's pointer; above it lies the way back */
		put(r, sp, RUN + BOTTOM + 1);

		const struct unwind_result *result = run(r, RUN + LEAF, top - 8, 0);

		expect_frame(result, 1, RUN + TO_IRQ_STACK + 5, UNWIND_RETURN);
		expect_frame(result, 2, RUN + BOTTOM + 1, UNWIND_RETURN);
		assert_int_equal(result->frames[2].sp, sp + 8);
		expect_end(result, 3, UNWIND_BOTTOM, 0);
	}
}

static void a_stack_is_not_come_back_to(void **state)
{
	struct rig *r = *state;
	u64 there = IRQ_STACK + 0x1000, here = TASK_STACK + 0x1000;

	for (u32 given = 0; given < 2; given++) {
		r->unwind.stacks = r->stacks;
		r->unwind.stack_count = given ? 2 : 0;
		put(r, here, there);
		put(r, there, RUN + TO_IRQ_STACK + 5);
		put(r, there + 8, here);
		put(r, here, there); /* and so on */
		put(r, here - 8, RUN + TO_IRQ_STACK + 5);

		const struct unwind_result *result = run(r, RUN + LEAF, there, 0);

		assert_true(result->count < 5);
		assert_true(result->end == UNWIND_LOOP || result->end == UNWIND_NO_CODE);
	}
	/* Onto the same word of the same stack. */
	put(r, here, RUN + TO_IRQ_STACK + 5);
	put(r, here + 8, here);
	expect_end(run(r, RUN + LEAF, here, 0), 2, UNWIND_LOOP, here + 8);
}

static void a_stack_pointer_that_goes_back_ends_it(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000;

	put(r, sp, RUN + FRAMED + 9);
	put(r, sp + 8, 0);
	/* bp points below: at the stack's own past. */
	put(r, sp - 8, RUN + LEAF);
	put(r, sp, RUN + FRAMED + 9);
	expect_end(run(r, RUN + LEAF, sp, sp - 8), 2, UNWIND_LOOP, sp + 8);
}

static void wild_pointers_end_it(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000;

	expect_end(run(r, RUN + LEAF, 0x1000, 0), 1, UNWIND_NO_STACK, 0x1000);
	expect_end(run(r, RUN + LEAF, sp + 1, 0), 1, UNWIND_NO_STACK, sp + 1);
	expect_end(run(r, RUN + LEAF, 0xffff888000000000ULL, 0), 1, UNWIND_UNMAPPED, 0xffff888000000000ULL);
	expect_end(run(r, RUN + FRAMED + 1, sp, 0), 1, UNWIND_NO_STACK, 16);
	expect_end(run(r, RUN + FRAMED + 1, sp, UINT64_MAX - 15), 1, UNWIND_NO_STACK, 0);
	expect_end(run(r, RUN + LEAF, UINT64_MAX - 7, 0), 1, UNWIND_NO_STACK, 0);
	put(r, sp, 0x4141414141414141ULL);
	expect_end(run(r, RUN + LEAF, sp, 0), 1, UNWIND_NO_CODE, 0x4141414141414141ULL);

	/* Above the last word of all memory. */
	expect_end(run(r, RUN + PUSHED, TASK_STACK + STACK - 0x20, 0), 1, UNWIND_UNMAPPED, TASK_STACK + STACK);

	/* Mapped, but not one of the stacks that were given. */
	r->unwind.stacks = r->stacks;
	r->unwind.stack_count = 1;
	expect_end(run(r, RUN + LEAF, IRQ_STACK + 0x800, 0), 1, UNWIND_NO_STACK, IRQ_STACK + 0x800);
}

static void endless_calls_end_at_the_limit(void **state)
{
	struct rig *r = *state;

	for (u64 at = TASK_STACK; at < TASK_STACK + STACK; at += 8)
		put(r, at, RUN + LEAF + 1);

	const struct unwind_result *result = run(r, RUN + LEAF, TASK_STACK, 0);

	expect_end(result, UNWIND_FRAMES, UNWIND_MANY, RUN + LEAF + 1);
	assert_int_equal(result->frames[UNWIND_FRAMES - 1].sp, TASK_STACK + 8 * (UNWIND_FRAMES - 1));
}

static void code_without_a_table_is_gone_through_by_its_frame_pointer(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000, frame = TASK_STACK + 0x1100;

	put(r, sp, BPF + 0x44); /* a kernel function, called by a BPF program */
	put(r, frame, 0xb0b);
	put(r, frame + 8, RUN + PUSHED + 5);
	put(r, frame + 16 + 0x20, RUN + BOTTOM + 1);

	const struct unwind_result *result = run(r, RUN + LEAF, sp, frame);

	expect_frame(result, 1, BPF + 0x44, UNWIND_RETURN);
	expect_frame(result, 2, RUN + PUSHED + 5, UNWIND_RETURN | UNWIND_GUESSED);
	expect_frame(result, 3, RUN + BOTTOM + 1, UNWIND_RETURN);
	expect_end(result, 4, UNWIND_BOTTOM, 0);

	/* So is a hole in the image's own table. */
	put(r, sp, RUN + HOLE + 8);
	expect_frame(run(r, RUN + LEAF, sp, frame), 2, RUN + PUSHED + 5, UNWIND_RETURN | UNWIND_GUESSED);
}

static void a_guess_that_leads_nowhere_ends_it(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000, frame = TASK_STACK + 0x1100;

	put(r, frame, 0);
	put(r, frame + 8, 0x4141414141414141ULL);
	expect_end(run(r, BPF, sp, frame), 1, UNWIND_NO_TABLE, BPF);
	expect_end(run(r, BPF, sp, sp - 0x100), 1, UNWIND_NO_TABLE, BPF);
	expect_end(run(r, BPF, sp, 0), 1, UNWIND_NO_TABLE, BPF);
	expect_end(run(r, BPF, sp, IRQ_STACK + 0x100), 1, UNWIND_NO_TABLE, BPF);
}

static void a_call_of_nothing_is_gone_back_from(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000;

	put(r, sp, RUN + BOTTOM + 1);
	for (u32 i = 0; i < 2; i++) {
		const struct unwind_result *result = run(r, i ? 0xdead000000000100ULL : 0, sp, 0);

		expect_frame(result, 1, RUN + BOTTOM + 1, UNWIND_RETURN | UNWIND_GUESSED);
		expect_end(result, 2, UNWIND_BOTTOM, 0);
	}
}

static void what_a_cpu_was_stopped_in_may_just_have_been_called(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000;

	put(r, sp, RUN + PUSHED + 5);
	put(r, sp + 8 + 0x20, RUN + HOLE + 1);
	put(r, sp + 0x30, RUN + BOTTOM + 1);

	const struct unwind_result *result = run(r, RUN + HOLE, sp, 0xdead);

	expect_frame(result, 1, RUN + PUSHED + 5, UNWIND_RETURN | UNWIND_GUESSED);
	/* But not what called something. */
	expect_end(result, 3, UNWIND_NO_TABLE, RUN + HOLE + 1);
}

static void what_a_cpu_was_stopped_in_at_its_first_instruction_was_called(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000, frame = TASK_STACK + 0x1100;
	const struct unwind_start thunk = { .ip = RUN + HOLE, .sp = sp, .bp = frame, .entered = true };

	/* Whatever the frame pointer's register holds. */
	put(r, frame + 8, RUN + LEAF + 1);
	put(r, sp, RUN + PUSHED + 5);
	unwind_stack(&r->unwind, &thunk, &r->result);
	expect_frame(&r->result, 1, RUN + PUSHED + 5, UNWIND_RETURN);
}

static void a_module_has_its_own_table(void **state)
{
	struct rig *r = *state;
	u64 sp = TASK_STACK + 0x1000;

	put(r, sp, MODULE + 0x10);
	put(r, sp + 16, RUN + BOTTOM + 1);
	expect_frame(run(r, RUN + LEAF, sp, 0), 2, RUN + BOTTOM + 1, UNWIND_RETURN);
}

static void a_register_is_known_from_a_stopped_cpu_or_from_an_interrupt(void **state)
{
	struct rig *r = *state;
	u64 regs = TASK_STACK + 0x1000, sp = TASK_STACK + 0x1200, r10 = TASK_STACK + 0x1300;
	const struct unwind_start all = { .ip = RUN + REALIGNED + 1, .sp = sp, .r10 = r10, .has_all = true };

	put(r, r10 - 8, RUN + BOTTOM + 1);
	unwind_stack(&r->unwind, &all, &r->result);
	expect_end(&r->result, 2, UNWIND_BOTTOM, 0);

	put_regs(r, regs, RUN + REALIGNED + 1, 0x10, sp, 0);
	put(r, regs + 56, r10);
	expect_end(run(r, RUN + INTERRUPT, regs, 0), 3, UNWIND_BOTTOM, 0);

	/* Nobody saved it. */
	expect_end(run(r, RUN + REALIGNED + 1, sp, 0), 1, UNWIND_NO_REGISTER, RUN + REALIGNED + 1);
	put(r, sp, RUN + REALIGNED + 5);
	expect_end(run(r, RUN + LEAF, sp, 0), 2, UNWIND_NO_REGISTER, RUN + REALIGNED + 5);
}

static void a_cpu_in_user_mode_has_no_calls_in_the_kernel(void **state)
{
	struct rig *r = *state;
	const struct unwind_start start = { .ip = 0x401000, .sp = 0x7ffd00000000, .has_all = true, .user = true };

	unwind_stack(&r->unwind, &start, &r->result);
	expect_end(&r->result, 0, UNWIND_USER, 0x401000);
	assert_int_equal(r->result.user_regs, 0);
}

static void a_return_address_that_tracing_replaced_is_found_again(void **state)
{
	struct rig *r = *state;
	const u64 sp = TASK_STACK + 0x1000, graph = RUN + HOLE + 8, rethook = RUN + HOLE + 0x18;
	const u64 trampolines[] = { graph, rethook };
	/* The second address was replaced twice: by rethook, then by graph. One is of another place. */
	const struct unwind_return returns[] = {
		{ sp + 0x28, rethook },
		{ sp + 0x100, RUN + LEAF + 1 },
		{ sp, RUN + PUSHED + 5 },
		{ sp + 0x28, RUN + BOTTOM + 1 },
	};

	r->unwind.trampolines = trampolines;
	r->unwind.trampoline_count = ARRAY_SIZE(trampolines);
	r->unwind.returns = returns;
	r->unwind.return_count = ARRAY_SIZE(returns);
	put(r, sp, rethook);
	put(r, sp + 0x28, graph);

	const struct unwind_result *result = run(r, RUN + LEAF + 3, sp, 0);

	expect_frame(result, 1, RUN + PUSHED + 5, UNWIND_RETURN | UNWIND_TRACED);
	expect_frame(result, 2, RUN + BOTTOM + 1, UNWIND_RETURN | UNWIND_TRACED);
	expect_end(result, 3, UNWIND_BOTTOM, 0);

	/* A mark is for one frame. */
	put(r, sp + 0x28, RUN + BOTTOM + 1);
	result = run(r, RUN + LEAF + 3, sp, 0);
	expect_frame(result, 1, RUN + PUSHED + 5, UNWIND_RETURN | UNWIND_TRACED);
	expect_frame(result, 2, RUN + BOTTOM + 1, UNWIND_RETURN);
}

static void a_return_address_that_tracing_replaced_is_never_a_frame(void **state)
{
	struct rig *r = *state;
	const u64 sp = TASK_STACK + 0x1000, graph = RUN + PUSHED + 8;
	const struct unwind_return returns[] = { { sp, graph }, { sp + 8, RUN + BOTTOM + 1 } };

	r->unwind.trampolines = &graph;
	r->unwind.trampoline_count = 1;
	put(r, sp, graph);
	expect_end(run(r, RUN + LEAF + 3, sp, 0), 1, UNWIND_REPLACED, graph);
	r->unwind.returns = returns;
	r->unwind.return_count = ARRAY_SIZE(returns);
	expect_end(run(r, RUN + LEAF + 3, sp, 0), 1, UNWIND_REPLACED, graph);

	/* Nor where code without a table was called. */
	put(r, TASK_STACK + 0x1100, 0);
	put(r, TASK_STACK + 0x1108, graph);
	expect_end(run(r, BPF, sp, TASK_STACK + 0x1100), 1, UNWIND_REPLACED, graph);
}

static void every_end_has_a_text(void **state)
{
	for (u32 end = UNWIND_USER; end <= UNWIND_REPLACED; end++)
		assert_string_not_equal(unwind_end_text(end), "unknown");
	assert_string_equal(unwind_end_text(UNWIND_REPLACED + 1), "unknown");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(calls_lead_to_user_mode),
		TEST(a_return_address_belongs_to_the_call_before_it),
		TEST(a_new_task_begins_at_a_first_instruction),
		TEST(an_interrupt_is_gone_through_to_what_it_interrupted),
		TEST(five_words_of_registers_are_enough),
		TEST(another_stack_is_gone_back_from),
		TEST(a_stack_is_not_come_back_to),
		TEST(a_stack_pointer_that_goes_back_ends_it),
		TEST(wild_pointers_end_it),
		TEST(endless_calls_end_at_the_limit),
		TEST(code_without_a_table_is_gone_through_by_its_frame_pointer),
		TEST(a_guess_that_leads_nowhere_ends_it),
		TEST(a_call_of_nothing_is_gone_back_from),
		TEST(what_a_cpu_was_stopped_in_may_just_have_been_called),
		TEST(what_a_cpu_was_stopped_in_at_its_first_instruction_was_called),
		TEST(a_module_has_its_own_table),
		TEST(a_register_is_known_from_a_stopped_cpu_or_from_an_interrupt),
		TEST(a_cpu_in_user_mode_has_no_calls_in_the_kernel),
		TEST(a_return_address_that_tracing_replaced_is_found_again),
		TEST(a_return_address_that_tracing_replaced_is_never_a_frame),
		TEST(every_end_has_a_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
