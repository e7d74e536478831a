// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a run copies and notes; its life.
 */
#include "capture/plan_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
	WORD = 8,
	FIRST_SEGMENTS = 4096,
	BYTES_A_SEGMENT = 32, /* the fewest on an average, which shows how much room to make */
	STEPS_A_LOOK = 256, /* at the clock */
	FIRST_SEEN = 64,
};

/* --- notes --- */

static u32 op_index(const struct plan_run *run, const struct plan_op *op)
{
	return (u32)(op - run->plan->ops);
}

void plan_note_that(struct plan_run *run, const struct plan_op *op, enum plan_note kind, u64 address)
{
	u32 index = op_index(run, op);

	// The last ones first: a walk says the same again and again.
	for (u32 i = run->note_count; i-- > 0;) {
		if (run->notes[i].op == index && run->notes[i].kind == kind) {
			run->notes[i].count++;
			return;
		}
	}
	if (run->note_count == PLAN_NOTES_MAX)
		run->notes_dropped++;
	else
		run->notes[run->note_count++] = (struct plan_noted){ index, kind, 1, address };
}

static void stop(struct plan_run *run, const struct plan_op *op, enum plan_note why, u64 address)
{
	// Of several limits the first one counts, and it has to be among the notes.
	if (run->stopped)
		return;
	run->stopped = true;
	if (run->note_count == PLAN_NOTES_MAX)
		run->note_count--;
	plan_note_that(run, op, why, address);
}

/* --- limits --- */

bool plan_step(struct plan_run *run, const struct plan_op *op, u64 address)
{
	u32 steps = ++run->record->steps;

	if (steps > run->plan->header.max_steps)
		stop(run, op, NOTE_STEPS, address);
	else if (steps % STEPS_A_LOOK == 0 && clock_now_ns() > run->deadline_ns)
		stop(run, op, NOTE_TIME, address);
	return !run->stopped;
}

/* --- copying --- */

static bool make_room_for_segment(struct plan_run *run)
{
	struct record *r = run->record;

	if (r->segment_count < run->segment_capacity)
		return true;

	u32 capacity = run->segment_capacity * 2;
	struct view_segment *segments = realloc(r->segments, capacity * sizeof(*segments));

	if (!segments) {
		run->no_memory = run->stopped = true;
		return false;
	}
	r->segments = segments;
	run->segment_capacity = capacity;
	return true;
}

/* Destroys err; what it is about is known. */
static void note_unmapped(struct plan_run *run, const struct plan_op *op, struct error *err, u64 address)
{
	error_destroy(err);
	plan_note_that(run, op, NOTE_UNMAPPED, address);
}

void plan_copy(struct plan_run *run, const struct plan_op *op, u64 address, u64 size)
{
	struct record *r = run->record;
	u64 at = ALIGN_UP(r->size, (u64)WORD) + address % WORD;

	if (run->stopped || !size)
		return;
	if (size > r->capacity || at > r->capacity - size) {
		stop(run, op, NOTE_FULL, address);
		return;
	}
	if (!make_room_for_segment(run))
		return;

	struct error *err = view_read(run->view, 0, address, r->data + at, size);

	if (err) {
		note_unmapped(run, op, err, address);
		return;
	}
	r->segments[r->segment_count++] = (struct view_segment){ address, size, r->data + at };
	r->size = at + size;
}

bool plan_load(struct plan_run *run, const struct plan_op *op, u64 address, u32 size, u64 *ret)
{
	struct error *err = view_read_scalar(run->view, address, size, ret);

	if (err)
		note_unmapped(run, op, err, address);
	return !err;
}

bool plan_load_bytes(struct plan_run *run, const struct plan_op *op, u64 address, void *data, u32 size)
{
	struct error *err = view_read(run->view, 0, address, data, size);

	if (err)
		note_unmapped(run, op, err, address);
	return !err;
}

/* --- where it has been --- */

/* Its key's place, or the free one where it belongs. */
static u64 *find_seen(u64 *set, u32 capacity, u64 key)
{
	u32 i = (u32)((key * 0x9e3779b97f4a7c15ULL) >> 32) & (capacity - 1);

	while (set[i] && set[i] != key)
		i = (i + 1) & (capacity - 1);
	return &set[i];
}

static bool grow_seen(struct plan_run *run)
{
	u32 capacity = run->seen_capacity ? run->seen_capacity * 2 : FIRST_SEEN;
	u64 *set = calloc(capacity, sizeof(*set));

	if (!set) {
		run->no_memory = run->stopped = true;
		return false;
	}
	for (u32 i = 0; i < run->seen_capacity; i++)
		if (run->seen[i])
			*find_seen(set, capacity, run->seen[i]) = run->seen[i];
	free(run->seen);
	run->seen = set;
	run->seen_capacity = capacity;
	return true;
}

bool plan_is_first(struct plan_run *run, const struct plan_op *op, u64 address)
{
	// Two operations at one address are two; that their keys meet is no more than a piece that is missing.
	u64 key = address ^ (u64)(op_index(run, op) + 1) << 48;

	if (run->seen_count * 2 >= run->seen_capacity && !grow_seen(run))
		return false;

	u64 *place = find_seen(run->seen, run->seen_capacity, key);

	if (*place || !key)
		return false;
	*place = key;
	run->seen_count++;
	return true;
}

/* --- its life --- */

struct error *plan_run_create(struct plan *p, u64 expected, struct plan_run **ret)
{
	struct plan_run *run = calloc(1, sizeof(*run));

	if (!run)
		return error_no_memory();
	run->plan = plan_get(p);
	run->segment_capacity = FIRST_SEGMENTS + (u32)(expected / BYTES_A_SEGMENT);
	run->percpu = calloc(p->header.cpus, sizeof(*run->percpu));

	struct error *err = record_create_empty(p->header.max_bytes, expected, &run->record);

	if (!err) {
		run->record->segments = malloc(run->segment_capacity * sizeof(*run->record->segments));
		if (!run->record->segments || !run->percpu)
			err = error_no_memory();
	}
	if (err) {
		plan_run_destroy(run);
		return err;
	}
	*ret = run;
	return NULL;
}

void plan_run_execute(struct plan_run *run, const struct view *view)
{
	u64 start = clock_now_ns();

	run->view = view;
	run->deadline_ns = clock_deadline_ns(run->plan->header.max_ns);
	run->record->plan_id = run->plan->header.id;
	run->record->slide = view->slide;
	plan_walk(run);
	run->record->spent_ns = clock_now_ns() - start;
}

void plan_run_add(struct plan_run *run, u64 address, u64 size)
{
	const u64 page = 4096;
	struct record *r = run->record;
	u64 end = address + size;

	while (!run->stopped && address < end) {
		u64 at = ALIGN_UP(r->size, (u64)WORD) + address % WORD;
		u64 part = page - address % page;

		if (part > end - address)
			part = end - address;
		if (part > r->capacity || at > r->capacity - part || !make_room_for_segment(run))
			return;

		struct error *err = view_read(run->view, 0, address, r->data + at, part);

		if (err) {
			error_destroy(err);
			return;
		}
		r->segments[r->segment_count++] = (struct view_segment){ address, part, r->data + at };
		r->size = at + part;
		address += part;
	}
}

/* The last word of the mapped pages behind sp that may be its stack's; *end is behind it. */
static u64 read_stack_top(const struct plan_run *run, u64 sp, u64 *end)
{
	const u64 page = 4096;
	u64 top = 0;

	*end = sp;
	for (u64 at = ALIGN_UP(sp + 1, page); at - sp <= PLAN_STACK; at += page) {
		struct error *err = view_read(run->view, 0, at - WORD, &top, WORD);

		if (err) {
			error_destroy(err);
			break;
		}
		*end = at;
	}
	return top;
}

void plan_run_add_stack(struct plan_run *run, u64 sp)
{
	const u64 kernel = 1ULL << 63;
	u64 aligned = sp - sp % PLAN_STACK + PLAN_STACK, end;
	u64 under = read_stack_top(run, sp, &end);
	bool is_interrupt = under & kernel && under % WORD == 0 && under - sp + PLAN_STACK > 2 * PLAN_STACK;

	// A task's stack is aligned to its size; an interrupt's, which has a page without memory behind it, is not.
	plan_run_add(run, sp, (is_interrupt && end > aligned ? end : aligned) - sp);
	if (is_interrupt)
		plan_run_add(run, under, PLAN_STACK - under % PLAN_STACK);
}

static void write_notes(const struct plan_run *run)
{
	struct buf *out = &run->record->notes;

	for (u32 i = 0; i < run->note_count; i++) {
		const struct plan_noted *n = &run->notes[i];
		const char *path = run->plan->text + run->plan->ops[n->op].path;
		char head[80];
		int length = snprintf(head, sizeof(head), "%s\t%u\t0x%" PRIx64 "\t", plan_note_name(n->kind), n->count,
				      n->address);

		buf_put(out, head, (size_t)length);
		buf_put(out, path, strlen(path));
		buf_put(out, "\n", 1);
	}
	if (run->notes_dropped) {
		char line[80];
		int length = snprintf(line, sizeof(line), "dropped\t%" PRIu64 "\t0x0\t\n", run->notes_dropped);

		buf_put(out, line, (size_t)length);
	}
	buf_put_u8(out, 0);
}

struct error *plan_run_finish(struct plan_run *run, struct record **ret)
{
	struct error *err = run->no_memory ? error_no_memory() : NULL;

	if (!err) {
		write_notes(run);
		err = buf_check(&run->record->notes);
	}
	if (!err) {
		run->record->is_cut = run->stopped;
		record_sort(run->record);
		record_shrink(run->record);
		*ret = run->record;
		run->record = NULL;
	}
	plan_run_destroy(run);
	return err;
}

void plan_run_destroy(struct plan_run *run)
{
	if (!run)
		return;
	record_put(run->record);
	plan_put(run->plan);
	free(run->percpu);
	free(run->seen);
	free(run);
}
