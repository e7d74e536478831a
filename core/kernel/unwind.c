// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/unwind.h"

/* All code of an x86-64 kernel is in the top 2 GiB: image, modules, BPF programs, trampolines. */
#define CODE_START 0xffffffff80000000ULL
#define CODE_END 0xffffffffff000000ULL
/* Kernel addresses have the top bit set. */
#define KERNEL_HALF (1ULL << 63)

/* struct pt_regs: part of the ABI, so the same in all kernels. The last five words are what the CPU pushes. */
enum {
	REGS_R13 = 16,
	REGS_BP = 32,
	REGS_R10 = 56,
	REGS_AX = 80,
	REGS_DX = 96,
	REGS_DI = 112,
	REGS_IP = 128,
	CS_USER = 3,
};

enum { FRAME_IP, /* of those five words */
       FRAME_CS,
       FRAME_FLAGS,
       FRAME_SP };

/* Where it has been: no stack is come back to. */
struct extent {
	u64 low, high; /* both included */
};

struct walk {
	const struct unwind *u;
	struct unwind_result *result;
	u64 ip, sp, bp;
	u64 ax, dx, di, r10, r13;
	bool has_all; /* these are known */
	bool returns;
	bool entered; /* ip is a function's first instruction */
	bool traced;
	u64 regs;
	struct extent extents[UNWIND_SWITCHES + 1];
	u32 extent_count; /* the last one is the stack that it is on */
};

static bool end(struct walk *w, enum unwind_end why, u64 at)
{
	w->result->end = why;
	w->result->at = at;
	return false;
}

static bool is_code(u64 address)
{
	return address >= CODE_START && address < CODE_END;
}

/* Place among the given stacks; a pointer to a stack's end is on it: there is nothing above. */
static u32 find_stack(const struct unwind *u, u64 sp)
{
	u32 i = 0;

	while (i < u->stack_count && (sp <= u->stacks[i].start || sp > u->stacks[i].end))
		i++;
	return i;
}

static bool is_stack_pointer(const struct unwind *u, u64 sp)
{
	return sp & KERNEL_HALF && !(sp & 7) && (!u->stack_count || find_stack(u, sp) < u->stack_count);
}

static bool read_word(struct walk *w, u64 address, u64 *ret)
{
	if (!(address & KERNEL_HALF) || address & 7)
		return end(w, UNWIND_NO_STACK, address);

	struct error *err = view_read_scalar(w->u->view, address, sizeof(*ret), ret);

	if (err) {
		error_destroy(err);
		return end(w, UNWIND_UNMAPPED, address);
	}
	return true;
}

static bool same_stack(const struct walk *w, u64 sp)
{
	return sp > w->sp && sp - w->sp <= UNWIND_STEP &&
	       (!w->u->stack_count || find_stack(w->u, sp) == find_stack(w->u, w->sp));
}

static bool was_there(const struct walk *w, u64 sp)
{
	u32 stack = find_stack(w->u, sp);

	for (u32 i = 0; i < w->extent_count; i++) {
		const struct extent *e = &w->extents[i];

		if ((sp >= e->low && sp <= e->high) || (w->u->stack_count && find_stack(w->u, e->low) == stack))
			return true;
	}
	return false;
}

/* To the caller's stack pointer: up on this stack, or to another one. */
static bool move_stack(struct walk *w, u64 sp)
{
	if (!is_stack_pointer(w->u, sp))
		return end(w, UNWIND_NO_STACK, sp);
	if (same_stack(w, sp)) {
		w->extents[w->extent_count - 1].high = sp;
	} else {
		if (was_there(w, sp) || w->extent_count == ARRAY_SIZE(w->extents))
			return end(w, UNWIND_LOOP, sp);
		w->extents[w->extent_count++] = (struct extent){ sp, sp };
	}
	w->sp = sp;
	return true;
}

static bool find_entry(const struct walk *w, struct orc_entry *ret)
{
	u64 address = w->returns ? w->ip - 1 : w->ip;

	for (u32 i = 0; i < w->u->table_count; i++) {
		const struct unwind_table *t = &w->u->tables[i];

		if (orc_find(t->orc, address - t->slide, ret))
			return true;
	}
	return false;
}

static const u64 *known_register(const struct walk *w, enum orc_register reg)
{
	switch (reg) {
	case ORC_AX:
		return &w->ax;
	case ORC_DX:
		return &w->dx;
	case ORC_DI:
		return &w->di;
	case ORC_R10:
		return &w->r10;
	default:
		return &w->r13;
	}
}

/* Its caller's stack pointer, or where its registers are. */
static bool find_sp(struct walk *w, const struct orc_entry *entry, u64 *ret)
{
	s64 offset = entry->sp_offset;

	switch (entry->sp_reg) {
	case ORC_SP:
		*ret = w->sp + offset;
		return true;
	case ORC_BP:
		*ret = w->bp + offset;
		return true;
	case ORC_SP_INDIRECT:
		if (!read_word(w, w->sp, ret))
			return false;
		*ret += offset;
		return true;
	case ORC_BP_INDIRECT:
		return read_word(w, w->bp + offset, ret);
	case ORC_AX:
	case ORC_DX:
	case ORC_DI:
	case ORC_R10:
	case ORC_R13:
		if (!w->has_all)
			return end(w, UNWIND_NO_REGISTER, w->ip);
		*ret = *known_register(w, entry->sp_reg);
		return true;
	default:
		return end(w, UNWIND_NO_TABLE, w->ip);
	}
}

static bool find_bp(struct walk *w, const struct orc_entry *entry, u64 sp, u64 *ret)
{
	switch (entry->bp_reg) {
	case ORC_UNDEFINED:
		*ret = w->bp;
		return true;
	case ORC_PREV_SP:
		return read_word(w, sp + entry->bp_offset, ret);
	case ORC_BP:
		return read_word(w, w->bp + entry->bp_offset, ret);
	default:
		return end(w, UNWIND_NO_TABLE, w->ip);
	}
}

static bool is_trampoline(const struct unwind *u, u64 ip)
{
	for (u32 i = 0; i < u->trampoline_count; i++)
		if (u->trampolines[i] == ip)
			return true;
	return false;
}

/* What was in the place of a return address of tracing's. Two may have replaced one after the other. */
static bool find_replaced(struct walk *w, u64 at, u64 *ip)
{
	w->traced = is_trampoline(w->u, *ip);
	if (!w->traced)
		return true;
	for (u32 i = 0; i < w->u->return_count; i++) {
		const struct unwind_return *r = &w->u->returns[i];

		if (r->at == at && !is_trampoline(w->u, r->address)) {
			*ip = r->address;
			return true;
		}
	}
	return end(w, UNWIND_REPLACED, *ip);
}

static bool step_call(struct walk *w, const struct orc_entry *entry, u64 sp)
{
	u64 ip, bp;

	if (!is_stack_pointer(w->u, sp))
		return end(w, UNWIND_NO_STACK, sp);
	if (!read_word(w, sp - 8, &ip) || !find_bp(w, entry, sp, &bp) || !find_replaced(w, sp - 8, &ip))
		return false;
	if (!is_code(ip))
		return end(w, UNWIND_NO_CODE, ip);
	if (!move_stack(w, sp))
		return false;
	w->ip = ip;
	w->bp = bp;
	w->has_all = false;
	w->regs = 0;
	return true;
}

static bool read_all(struct walk *w, u64 regs)
{
	return read_word(w, regs + REGS_AX, &w->ax) && read_word(w, regs + REGS_DX, &w->dx) &&
	       read_word(w, regs + REGS_DI, &w->di) && read_word(w, regs + REGS_R10, &w->r10) &&
	       read_word(w, regs + REGS_R13, &w->r13);
}

/*
 * sp: of a struct pt_regs, whole or its last five words. What was known of other registers stays so over the latter:
 * the code in between is entry code.
 */
static bool step_regs(struct walk *w, const struct orc_entry *entry, u64 sp)
{
	u64 words[FRAME_SP + 1], regs = sp, bp;

	if (entry->type == ORC_REGS_PARTIAL)
		regs -= REGS_IP;
	for (u32 i = 0; i < ARRAY_SIZE(words); i++)
		if (!read_word(w, regs + REGS_IP + 8ULL * i, &words[i]))
			return false;
	if ((words[FRAME_CS] & CS_USER) == CS_USER) {
		w->result->user_regs = regs;
		return end(w, UNWIND_USER, words[FRAME_IP]);
	}
	if (!find_bp(w, entry, sp, &bp))
		return false;
	if (entry->type == ORC_REGS) {
		if (!read_all(w, regs) || (entry->bp_reg == ORC_UNDEFINED && !read_word(w, regs + REGS_BP, &bp)))
			return false;
		w->has_all = true;
	}
	w->bp = bp;
	if (!move_stack(w, words[FRAME_SP]))
		return false;
	w->ip = words[FRAME_IP];
	w->regs = regs;
	return true;
}

static bool guess(struct walk *w, const struct orc_entry *entry)
{
	u64 sp;

	return find_sp(w, entry, &sp) && is_stack_pointer(w->u, sp) && same_stack(w, sp) && step_call(w, entry, sp);
}

/*
 * A function without a table: as if it had a frame pointer. One that is not there at all has just been called; so may
 * have been what a CPU was stopped in, if it is one of the kernel's few instructions that push nothing (thunks).
 * At its first instruction there is nothing to guess.
 */
static bool step_guess(struct walk *w, bool *guessed)
{
	static const struct orc_entry framed = {
		.type = ORC_CALL, .sp_reg = ORC_BP, .sp_offset = 16, .bp_reg = ORC_PREV_SP, .bp_offset = -16
	};
	static const struct orc_entry called = { .type = ORC_CALL, .sp_reg = ORC_SP, .sp_offset = 8 };
	bool stopped = w->result->count == 1 && !w->returns, found = false;
	u64 from = w->ip;

	if (w->entered && stopped) {
		found = guess(w, &called);
		*guessed = !found;
	}
	if (!found && !w->traced && is_code(from))
		found = guess(w, &framed);
	if (!found && !w->traced && (!is_code(from) || stopped))
		found = guess(w, &called);
	if (!found)
		return w->traced ? false : end(w, UNWIND_NO_TABLE, from);
	w->returns = true;
	return true;
}

static bool step(struct walk *w, bool *guessed)
{
	struct orc_entry entry;
	u64 sp;

	w->traced = false;
	*guessed = !is_code(w->ip) || !find_entry(w, &entry);
	if (*guessed)
		return step_guess(w, guessed);
	if (entry.type == ORC_END)
		return end(w, UNWIND_BOTTOM, 0);
	if (!find_sp(w, &entry, &sp))
		return false;
	if (entry.type == ORC_CALL ? !step_call(w, &entry, sp) : !step_regs(w, &entry, sp))
		return false;
	w->returns = !entry.signal;
	return true;
}

static void add_frame(struct walk *w, bool guessed)
{
	u32 flags = (w->returns ? UNWIND_RETURN : UNWIND_SIGNAL) | (guessed ? UNWIND_GUESSED : 0) |
		    (w->traced ? UNWIND_TRACED : 0);

	w->result->frames[w->result->count++] = (struct unwind_frame){
		.address = w->ip, .sp = w->sp, .regs = w->regs, .flags = flags
	};
}

void unwind_stack(const struct unwind *u, const struct unwind_start *start, struct unwind_result *ret)
{
	struct walk w = {
		.u = u,
		.result = ret,
		.ip = start->ip,
		.sp = start->sp,
		.bp = start->bp,
		.ax = start->ax,
		.dx = start->dx,
		.di = start->di,
		.r10 = start->r10,
		.r13 = start->r13,
		.has_all = start->has_all,
		.returns = start->returns,
		.entered = start->entered,
		.extents = { { start->sp, start->sp } },
		.extent_count = 1,
	};
	bool guessed = false;

	ret->count = 0;
	ret->user_regs = 0;
	if (start->user) {
		end(&w, UNWIND_USER, start->ip);
		return;
	}
	add_frame(&w, false);
	if (!is_stack_pointer(u, w.sp)) {
		end(&w, UNWIND_NO_STACK, w.sp);
		return;
	}
	while (step(&w, &guessed)) {
		if (ret->count == UNWIND_FRAMES) {
			end(&w, UNWIND_MANY, w.ip);
			return;
		}
		add_frame(&w, guessed);
	}
}

const char *unwind_end_text(enum unwind_end end)
{
	static const char *const texts[] = {
		[UNWIND_USER] = "user mode",
		[UNWIND_BOTTOM] = "the end of the stack",
		[UNWIND_MANY] = "more frames than any stack has",
		[UNWIND_NO_TABLE] = "no unwind table covers the code, and its frame pointer leads nowhere",
		[UNWIND_NO_REGISTER] = "a register that was not saved is needed",
		[UNWIND_NO_CODE] = "the return address is no code",
		[UNWIND_NO_STACK] = "the stack pointer is on no stack",
		[UNWIND_UNMAPPED] = "no memory there",
		[UNWIND_LOOP] = "the stack pointer goes back",
		[UNWIND_REPLACED] = "tracing has replaced the return address, and nothing says which it was",
	};

	return (u32)end < ARRAY_SIZE(texts) ? texts[end] : "unknown";
}
