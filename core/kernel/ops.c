// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/ops.h"

#include <string.h>

typedef unsigned long long ull;

/* --- a batch that makes sense --- */

static bool is_word(u32 size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

static const char *check_op(const struct op_batch *b, const struct op *o)
{
	bool per_cpu = o->base == OP_BASE_PER_CPU;

	if (o->op < KERNEL_OP_READ || o->op > KERNEL_OP_OR || o->base > OP_BASE_TASK)
		return "no such operation";
	if (!o->size || (!o->is_bytes && !is_word(o->size)))
		return "no such size";
	if (o->op == KERNEL_OP_OR && (o->is_bytes || o->size != sizeof(u32)))
		return "bits are set in 32 of them";
	if (o->bits ? o->is_bytes || o->shift + o->bits > o->size * 8 : o->shift != 0)
		return "a bit-field that is not in its word";
	if (o->is_bytes && (o->data > b->data_size || o->size > b->data_size - o->data))
		return "its bytes are not in the data";
	if (o->steps > OPS_STEPS_MAX || o->first_step > b->step_count || o->steps > b->step_count - o->first_step)
		return "there are no such steps";
	for (u32 i = 0; i < o->steps; i++)
		per_cpu |= b->steps[o->first_step + i].per_cpu != 0;
	if (per_cpu && !b->layout.offsets)
		return "something per-CPU, and nothing is";
	return NULL;
}

struct error *op_batch_check(const struct op_batch *b)
{
	u32 bits = b->layout.pids.slot_bits;

	if (b->count > OPS_MAX || b->data_size > OPS_BYTES_MAX)
		return error_create(ERROR_INVALID, "a batch has at most %d operations, and %d bytes of data", OPS_MAX,
				    OPS_BYTES_MAX);
	if (b->layout.pids.head && (bits < 1 || bits > 16))
		return error_create(ERROR_INVALID, "a tree of pids whose nodes have 2^%u slots", bits);
	for (u32 i = 0; i < b->count; i++) {
		const char *wrong = check_op(b, &b->ops[i]);

		if (wrong)
			return error_create(ERROR_INVALID, "operation %u of a batch: %s", i, wrong);
	}
	return NULL;
}

/* --- where --- */

/* A CPU's part begins so much behind a per-CPU address. */
static struct error *read_cpu_offset(const struct op_batch *b, const struct view *v, u32 cpu, u64 *ret)
{
	struct error *err;

	if (cpu >= b->layout.cpus)
		return error_create(ERROR_INVALID, "there is no CPU %u: the kernel has CPUs 0 to %u", cpu,
				    b->layout.cpus - 1);
	err = view_read_scalar(v, b->layout.offsets + cpu * sizeof(u64), sizeof(u64), ret);
	if (!err && (!*ret || *ret == b->layout.unset))
		err = error_create(ERROR_INVALID,
				   "the kernel has not set up its per-CPU memory yet, so there is none of CPU %u", cpu);
	return err;
}

static struct error *find_base(const struct op_batch *b, const struct view *v, const struct op *o, u64 cpu_offset,
			       u64 *ret)
{
	if (o->base == OP_BASE_TASK)
		return pid_find_task(v, &b->layout.pids, o->pid, ret);
	*ret = o->start + (o->base == OP_BASE_PER_CPU ? cpu_offset : 0);
	return NULL;
}

static bool needs_cpu(const struct op_batch *b, const struct op *o)
{
	bool needs = o->base == OP_BASE_PER_CPU;

	for (u32 i = 0; i < o->steps; i++)
		needs |= b->steps[o->first_step + i].per_cpu != 0;
	return needs;
}

static struct error *locate(const struct op_batch *b, const struct view *v, const struct op *o, u64 *ret)
{
	u64 cpu_offset = 0, address = 0;
	struct error *err = NULL;

	if (needs_cpu(b, o))
		err = read_cpu_offset(b, v, o->cpu, &cpu_offset);
	if (!err)
		err = find_base(b, v, o, cpu_offset, &address);
	for (u32 i = 0; !err && i < o->steps; i++) {
		const struct op_step *s = &b->steps[o->first_step + i];
		u64 pointer = address + s->offset;

		err = view_read_scalar(v, pointer, sizeof(u64), &address);
		if (!err && !address)
			err = error_create(ERROR_NOT_FOUND, "the pointer at 0x%llx, which leads there, is NULL",
					   (ull)pointer);
		if (s->per_cpu)
			address += cpu_offset;
	}
	*ret = address + o->offset;
	return err;
}

/* --- what --- */

static struct error *check_running(const struct op *o, u64 address)
{
	if (o->bits && o->op == KERNEL_OP_WRITE)
		return error_create(ERROR_RUNNING,
				    "the %u bits at 0x%llx share a word with others: the running guest may write it "
				    "meanwhile",
				    o->bits, (ull)address);
	if (!is_word(o->size))
		return error_create(ERROR_RUNNING, "%u bytes at 0x%llx cannot be written at once in a running machine",
				    o->size, (ull)address);
	if (address % o->size)
		return error_create(ERROR_RUNNING,
				    "the %u bytes at 0x%llx are not aligned: the running guest may change half of them",
				    o->size, (ull)address);
	return NULL;
}

static struct error *check_at_once(const struct op_batch *b, const struct op *o, u64 address)
{
	if (b->frozen || (o->is_bytes && o->op == KERNEL_OP_READ))
		return NULL;

	struct error *err = check_running(o, address);

	return err ? error_with_hint(err, "do it in a freeze: cold = true; ktstr-kernel --cold") : NULL;
}

static struct error *run_bytes(struct op_batch *b, const struct view *v, const struct op *o, u64 address)
{
	u64 value = 0;

	if (o->op == KERNEL_OP_READ)
		return view_read(v, 0, address, b->data + o->data, o->size);
	if (b->frozen)
		return view_write(v, 0, address, b->data + o->data, o->size);
	memcpy(&value, b->data + o->data, o->size);
	return view_write_scalar(v, address, o->size, value);
}

/* By one instruction where it can be: what the guest does to other bits meanwhile stays. */
static struct error *set_bits(const struct view *v, u64 address, u32 bits, u64 *before)
{
	struct view_place place;
	struct error *err;

	if (address % sizeof(u32) == 0) {
		err = view_translate(v, 0, address, false, &place);
		if (err)
			return err;
		*before = __atomic_fetch_or((u32 *)place.hva, bits, __ATOMIC_SEQ_CST);
		return NULL;
	}
	err = view_read_scalar(v, address, sizeof(u32), before);
	return err ? err : view_write_scalar(v, address, sizeof(u32), *before | bits);
}

/* --- bit-fields --- */

static u64 mask_of(const struct op *o)
{
	return o->bits && o->bits < 64 ? (1ULL << o->bits) - 1 : UINT64_MAX;
}

static struct error *write_field(const struct view *v, const struct op *o, u64 address)
{
	u64 word, mask = mask_of(o) << o->shift;
	struct error *err = view_read_scalar(v, address, o->size, &word);

	if (err)
		return err;
	return view_write_scalar(v, address, o->size, (word & ~mask) | (o->value << o->shift & mask));
}

/* A word, or the bits of it that matter. */
static struct error *run_scalar(const struct view *v, const struct op *o, u64 address, u64 *value)
{
	struct error *err;

	if (o->op == KERNEL_OP_WRITE)
		return o->bits ? write_field(v, o, address) : view_write_scalar(v, address, o->size, o->value);
	if (o->op == KERNEL_OP_READ)
		err = view_read_scalar(v, address, o->size, value);
	else
		err = set_bits(v, address, (u32)((o->value & mask_of(o)) << o->shift), value);
	*value = *value >> o->shift & mask_of(o);
	return err;
}

static struct error *run_one(struct op_batch *b, const struct view *v, const struct op *o, u64 *value)
{
	u64 address;
	struct error *err = locate(b, v, o, &address);

	if (!err)
		err = check_at_once(b, o, address);
	if (err)
		return err;
	return o->is_bytes ? run_bytes(b, v, o, address) : run_scalar(v, o, address, value);
}

void op_batch_run(struct op_batch *b, const struct view *view)
{
	b->done = 0;
	b->err = NULL;
	while (b->done < b->count) {
		b->values[b->done] = 0;
		b->err = run_one(b, view, &b->ops[b->done], &b->values[b->done]);
		if (b->err)
			return;
		b->done++;
	}
}
