// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A plan's operations, one function each.
 */
#include "capture/plan_run.h"

#include <stdlib.h>
#include <string.h>

enum {
	TREE_STACK = 128, /* places that are still to be gone to, in a tree that is as deep as it can be */
	XARRAY_LEVELS = 12, /* six bits each */
	XA_INTERNAL = 2,
	XA_TAGS = 3,
	XA_SIBLINGS = 256, /* up to there an internal entry is no node */
	CPU_WORD = 8,
	PAGE = 4096,
};

/* The last page of the address space: what the kernel's error pointers are. */
#define ERROR_POINTERS ((u64)-4095)

static void walk_tree(struct plan_run *run, const struct plan_op *op, u64 address);

/* --- one address --- */

static u64 register_product(const struct plan_run *run, const struct plan_op *op)
{
	u64 product;

	if (__builtin_mul_overflow(run->registers[op->reg], run->registers[op->reg2], &product))
		return UINT64_MAX;
	return product;
}

static void copy_sized(struct plan_run *run, const struct plan_op *op, u64 address)
{
	u64 size = register_product(run, op);

	if (size > op->limit)
		plan_note_that(run, op, NOTE_LARGE, address);
	else
		plan_copy(run, op, address + op->a, size);
}

static void follow(struct plan_run *run, const struct plan_op *op, u64 address)
{
	u64 target;

	if (!plan_load(run, op, address + op->a, 8, &target))
		return;
	target &= ~op->b;
	if (!target && op->flags & PLAN_MAY_BE_NULL)
		return;
	if (!target)
		plan_note_that(run, op, NOTE_NULL, address + op->a);
	else if (target >= ERROR_POINTERS)
		plan_note_that(run, op, NOTE_ERROR_POINTER, address + op->a);
	else if (!(op->flags & PLAN_ONCE) || plan_is_first(run, op, target))
		walk_tree(run, op, target - op->c);
}

static bool text_matches(const char *text, u32 size, const char *wanted, bool suffix)
{
	size_t length = strnlen(text, size), wanted_length = strlen(wanted);

	if (length < wanted_length || (!suffix && length != wanted_length))
		return false;
	return memcmp(text + length - wanted_length, wanted, wanted_length) == 0;
}

static void if_text(struct plan_run *run, const struct plan_op *op, u64 address)
{
	char text[PLAN_NAME_MAX];

	if (plan_load_bytes(run, op, address + op->a, text, (u32)op->b) &&
	    text_matches(text, (u32)op->b, run->plan->text + op->c, op->flags & PLAN_SUFFIX))
		walk_tree(run, op, address);
}

static void string(struct plan_run *run, const struct plan_op *op, u64 address)
{
	char text[PLAN_STRING_MAX];
	size_t length;
	struct error *err = view_read_string(run->view, 0, address + op->a, text, op->limit, &length);

	if (err) {
		error_destroy(err);
		plan_note_that(run, op, NOTE_UNMAPPED, address + op->a);
		return;
	}
	if (length == op->limit)
		plan_note_that(run, op, NOTE_LARGE, address + op->a);
	plan_copy(run, op, address + op->a, length < op->limit ? length + 1 : length);
}

static u64 calculated(const struct plan_op *op, u64 x, u64 y)
{
	switch ((enum plan_calc)op->a) {
	case CALC_ADD:
		return x + y;
	case CALC_SUBTRACT:
		return x > y ? x - y : 0;
	case CALC_AND:
		return x & y;
	case CALC_MAX:
		return x > y ? x : y;
	case CALC_SHIFT:
		return y < 64 ? x << y : 0;
	case CALC_KINDS:
		break;
	}
	return 0;
}

/* --- several --- */

/* A page at a time: what lies between those that are there costs a look at the page tables, and no more. */
static void pages(struct plan_run *run, const struct plan_op *op, u64 address)
{
	u64 count = run->registers[op->reg], room = op->limit;

	if (count > op->c) {
		plan_note_that(run, op, NOTE_MANY, address);
		count = op->c;
	}
	for (u64 i = 0; i < count && plan_step(run, op, address);) {
		u64 at = address + i * PAGE, gap = view_gap(run->view, at);

		if (gap) {
			i += gap / PAGE + (gap % PAGE != 0);
			continue;
		}
		if (room < PAGE) {
			plan_note_that(run, op, NOTE_LARGE, at);
			return;
		}
		plan_copy(run, op, at, PAGE);
		room -= PAGE;
		i++;
	}
}

static void per_cpu(struct plan_run *run, const struct plan_op *op, u64 address)
{
	u32 first = op->flags & PLAN_ONE ? (u32)op->a : 0;
	u32 end = op->flags & PLAN_ONE ? first + 1 : run->plan->header.cpus;

	for (u32 cpu = first; cpu < end && !run->stopped; cpu++) {
		if (run->percpu[cpu])
			walk_tree(run, op, address + run->percpu[cpu]);
		else
			plan_note_that(run, op, NOTE_NO_CPU, cpu);
	}
}

static void array(struct plan_run *run, const struct plan_op *op, u64 address, u64 count)
{
	for (u64 i = 0; i < count && plan_step(run, op, address); i++)
		walk_tree(run, op, address + op->a + i * op->b);
}

static void array_sized(struct plan_run *run, const struct plan_op *op, u64 address)
{
	u64 count = run->registers[op->reg];

	if (count > op->limit) {
		plan_note_that(run, op, NOTE_MANY, address);
		count = op->limit;
	}
	array(run, op, address, count);
}

/*
 * A walk along pointers: counts, and notices a circle that does not lead back to the beginning, by one remembered
 * place that moves ahead at every power of two (Brent).
 */
struct way {
	u64 mark, power, steps;
};

static bool go_on(struct plan_run *run, const struct plan_op *op, struct way *w, u64 at)
{
	if (!plan_step(run, op, at))
		return false;
	if (at == w->mark) {
		plan_note_that(run, op, NOTE_CIRCLE, at);
		return false;
	}
	if (w->steps == op->limit) {
		plan_note_that(run, op, NOTE_MANY, at);
		return false;
	}
	if (++w->steps >= w->power) {
		w->power = w->steps * 2;
		w->mark = at;
	}
	return true;
}

static void list(struct plan_run *run, const struct plan_op *op, u64 address)
{
	u64 head = address + op->a, at = head;
	struct way way = { 0 };

	for (;;) {
		if (!plan_load(run, op, at, 8, &at) || at == head)
			return;
		if (!at) {
			plan_note_that(run, op, NOTE_NULL, head);
			return;
		}
		if (!go_on(run, op, &way, at))
			return;
		walk_tree(run, op, at - op->b);
	}
}

static void chain(struct plan_run *run, const struct plan_op *op, u64 address)
{
	struct way way = { 0 };
	u64 at;

	if (!plan_load(run, op, address + op->a, 8, &at))
		return;
	for (at &= ~op->c; at && !(at & 1);) {
		if (!go_on(run, op, &way, at))
			return;
		walk_tree(run, op, at - op->b);
		if (!plan_load(run, op, at, 8, &at))
			return;
	}
}

/* Every node before those below it. A circle ends with the limit: the same nodes come again and again until then. */
static void rbtree(struct plan_run *run, const struct plan_op *op, u64 address)
{
	u64 stack[TREE_STACK];
	u64 places[] = { op->c & 0xffff, op->c >> 16 & 0xffff };
	struct way way = { .power = UINT64_MAX };
	u32 depth = 1;

	if (!plan_load(run, op, address + op->a, 8, &stack[0]))
		return;
	while (depth) {
		u64 at = stack[--depth];

		if (!at)
			continue;
		if (!go_on(run, op, &way, at))
			return;
		walk_tree(run, op, at - op->b);
		if (depth + ARRAY_SIZE(places) > TREE_STACK) {
			plan_note_that(run, op, NOTE_DAMAGED, at);
			return;
		}
		for (u32 i = 0; i < ARRAY_SIZE(places); i++)
			if (plan_load(run, op, at + places[i], 8, &stack[depth]))
				depth++;
	}
}

static void xarray_entry(struct plan_run *run, const struct plan_op *op, struct way *way, u64 entry, u32 level);

static void xarray_node(struct plan_run *run, const struct plan_op *op, struct way *way, u64 node, u32 level)
{
	u64 slots = node + (op->c >> 16 & 0xffff);
	u32 count = (u32)(op->c >> 32);

	if (level == XARRAY_LEVELS) {
		plan_note_that(run, op, NOTE_DAMAGED, node);
		return;
	}
	plan_copy(run, op, node, op->c & 0xffff);
	for (u32 i = 0; i < count && !run->stopped; i++) {
		u64 entry;

		if (!plan_load(run, op, slots + i * sizeof(u64), 8, &entry))
			return;
		xarray_entry(run, op, way, entry, level + 1);
	}
}

static void xarray_entry(struct plan_run *run, const struct plan_op *op, struct way *way, u64 entry, u32 level)
{
	if (!entry || entry & 1)
		return; // nothing, or a number
	if (!plan_step(run, op, entry))
		return;
	if ((entry & XA_TAGS) == XA_INTERNAL) {
		if (entry > XA_SIBLINGS && entry < ERROR_POINTERS)
			xarray_node(run, op, way, entry - XA_INTERNAL, level);
		return;
	}
	// Beyond the limit only the steps are an end: a tree that is none has no elements.
	if (way->steps++ < op->limit)
		walk_tree(run, op, entry - op->b);
	else if (way->steps == (u64)op->limit + 1)
		plan_note_that(run, op, NOTE_MANY, entry);
}

static void xarray(struct plan_run *run, const struct plan_op *op, u64 address)
{
	struct way way = { 0 };
	u64 head;

	if (plan_load(run, op, address + op->a, 8, &head))
		xarray_entry(run, op, &way, head, 0);
}

/* --- all of them --- */

static void carry_out(struct plan_run *run, const struct plan_op *op, u64 address)
{
	switch ((enum plan_kind)op->kind) {
	case PLAN_AT:
		walk_tree(run, op, op->a);
		break;
	case PLAN_COPY:
		plan_copy(run, op, address + op->a, op->b);
		break;
	case PLAN_COPY_SIZED:
		copy_sized(run, op, address);
		break;
	case PLAN_FOLLOW:
		follow(run, op, address);
		break;
	case PLAN_PER_CPU:
		per_cpu(run, op, address);
		break;
	case PLAN_ARRAY:
		array(run, op, address, op->c);
		break;
	case PLAN_ARRAY_SIZED:
		array_sized(run, op, address);
		break;
	case PLAN_LIST:
		list(run, op, address);
		break;
	case PLAN_CHAIN:
		chain(run, op, address);
		break;
	case PLAN_RBTREE:
		rbtree(run, op, address);
		break;
	case PLAN_XARRAY:
		xarray(run, op, address);
		break;
	case PLAN_SET:
		run->registers[op->reg] = op->a;
		break;
	case PLAN_LOAD:
		if (!plan_load(run, op, address + op->a, (u32)op->b, &run->registers[op->reg]))
			run->registers[op->reg] = 0;
		break;
	case PLAN_IF:
		if ((run->registers[op->reg] & op->a) == op->b)
			walk_tree(run, op, address);
		break;
	case PLAN_IF_TEXT:
		if_text(run, op, address);
		break;
	case PLAN_STRING:
		string(run, op, address);
		break;
	case PLAN_PAGES:
		pages(run, op, address);
		break;
	case PLAN_CALC:
		run->registers[op->reg] = calculated(op, run->registers[op->reg], run->registers[op->reg2]);
		break;
	case PLAN_MOVE:
		walk_tree(run, op, address + run->registers[op->reg]);
		break;
	case PLAN_KINDS:
		break;
	}
}

static void walk_ops(struct plan_run *run, const struct plan_op *first, u32 count, u64 address)
{
	for (u32 i = 0; i < count; i += 1 + first[i].below) {
		if (!plan_step(run, &first[i], address))
			return;
		carry_out(run, &first[i], address);
	}
}

static void walk_tree(struct plan_run *run, const struct plan_op *op, u64 address)
{
	walk_ops(run, op + 1, op->below, address);
}

/* Read once: they do not change any more. Of no CPU is an error here; where one is needed it is noted. */
static void read_percpu(struct plan_run *run)
{
	const struct plan_header *h = &run->plan->header;

	for (u32 cpu = 0; h->percpu_offsets && cpu < h->cpus; cpu++) {
		u64 *offset = &run->percpu[cpu];
		struct error *err = view_read_scalar(run->view, h->percpu_offsets + (u64)cpu * CPU_WORD, 8, offset);

		if (err || *offset == h->percpu_unset)
			*offset = 0;
		error_destroy(err);
	}
}

void plan_walk(struct plan_run *run)
{
	read_percpu(run);
	walk_ops(run, run->plan->ops, run->plan->header.ops, 0);
}
