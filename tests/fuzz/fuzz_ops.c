// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Batches of operations over memory of any contents: pointers that lead anywhere, a tree of pids that is none. The
 * input: a layout, entries, steps, then the memory. Whatever they are, a batch that is accepted ends, says how far it
 * came, and has written nothing but the memory and its own data.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "kernel/ops.h"

#define START 0xffffffff81000000ULL

enum {
	MEMORY = 4 << 10,
	ENTRIES = 16,
	STEPS = 32,
	DATA = 64,
};

struct world {
	struct guest_memory guest;
	struct view view;
	u8 *memory;
};

/* An address: in the memory as a rule, or anything. */
static u64 take_address(struct reader *r)
{
	u16 word = reader_get_u16(r);

	return word % 8 == 7 ? reader_get_u64(r) : START + word % MEMORY;
}

static void take_layout(struct reader *r, struct op_layout *l)
{
	*l = (struct op_layout){
		.offsets = reader_get_u8(r) % 4 ? take_address(r) : 0,
		.unset = reader_get_u8(r),
		.cpus = reader_get_u8(r) % 8,
		.pids = {
			.head = reader_get_u8(r) % 4 ? take_address(r) : 0,
			.base = take_address(r),
			.node_shift = reader_get_u8(r) % 16,
			.node_slots = reader_get_u8(r) % 64,
			.slot_bits = reader_get_u8(r) % 20,
			.pid_tasks = reader_get_u8(r),
			.task_links = reader_get_u8(r),
			.task_pid = reader_get_u8(r),
		},
	};
}

static void take_op(struct reader *r, struct op *o)
{
	*o = (struct op){
		.op = reader_get_u8(r) % 5,
		.base = reader_get_u8(r) % 4,
		.size = reader_get_u8(r) % 17,
		.is_bytes = reader_get_u8(r) % 2,
		.cpu = reader_get_u8(r),
		.pid = reader_get_u8(r),
		.start = take_address(r),
		.offset = reader_get_u8(r),
		.value = reader_get_u64(r),
		.first_step = reader_get_u8(r) % (STEPS + 2),
		.steps = reader_get_u8(r) % 6,
		.data = reader_get_u8(r) % (DATA + 8),
		.shift = reader_get_u8(r) % 72,
		.bits = reader_get_u8(r) % 72,
	};
}

static struct world make_world(struct reader *r)
{
	struct world w = { .memory = calloc(1, MEMORY) };
	size_t n = reader_left(r) < MEMORY ? reader_left(r) : MEMORY;
	/* Words as they come, but for those that a byte of the input makes pointers into the memory. */
	const u8 *bytes = reader_take(r, n);

	if (n)
		memcpy(w.memory, bytes, n);
	for (size_t i = 0; i + 8 <= n; i += 8) {
		u64 address = START + (w.memory[i] | (w.memory[i + 1] % 16) << 8);

		if (w.memory[i + 7] % 2)
			memcpy(w.memory + i, &address, sizeof(address));
	}
	return w;
}

static void run(struct op_batch *b, struct world *w)
{
	struct error *err = op_batch_check(b);
	u32 count = b->count;

	if (err) {
		error_destroy(err);
		return;
	}
	op_batch_run(b, &w->view);
	if (b->done > count || (b->done < count) != (b->err != NULL))
		abort();
	error_destroy(b->err);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct reader r = reader_init(data, size);
	struct op ops[ENTRIES];
	struct op_step steps[STEPS] = { 0 };
	u64 values[ENTRIES];
	u8 *own = calloc(1, DATA); // its very size: the sanitizer sees an access past it
	struct op_batch b = {
		.ops = ops,
		.steps = steps,
		.count = reader_get_u8(&r) % (ENTRIES + 1),
		.step_count = STEPS,
		.data = own,
		.data_size = DATA,
		.frozen = reader_get_u8(&r) % 2,
		.values = values,
	};
	struct world w;

	take_layout(&r, &b.layout);
	for (u32 i = 0; i < b.count; i++)
		take_op(&r, &ops[i]);
	for (u32 i = 0; i < STEPS && reader_left(&r) > 64; i++)
		steps[i] = (struct op_step){ .offset = reader_get_u8(&r), .per_cpu = reader_get_u8(&r) % 4 == 0 };
	w = make_world(&r);
	w.view = (struct view){ .memory = &w.guest, .generation = 1, .levels = 4 };
	w.view.ranges[0] = (struct view_range){ .start = START, .size = MEMORY, .hva = w.memory };
	run(&b, &w);
	free(w.memory);
	free(own);
	return 0;
}
