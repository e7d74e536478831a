// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/plan.h"

#include <stdlib.h>
#include <string.h>

#include "capture/plan_internal.h"

const char *plan_note_name(enum plan_note kind)
{
	static const char *const names[NOTE_KINDS] = {
		[NOTE_NULL] = "null",
		[NOTE_ERROR_POINTER] = "error-pointer",
		[NOTE_UNMAPPED] = "unmapped",
		[NOTE_CIRCLE] = "circle",
		[NOTE_MANY] = "many",
		[NOTE_LARGE] = "large",
		[NOTE_NO_CPU] = "no-cpu",
		[NOTE_DAMAGED] = "damaged",
		[NOTE_FULL] = "full",
		[NOTE_STEPS] = "steps",
		[NOTE_TIME] = "time",
	};

	return kind < NOTE_KINDS ? names[kind] : "unknown";
}

static struct error *check_header(const struct plan_header *h, size_t size)
{
	if (h->magic != PLAN_MAGIC)
		return error_create(ERROR_FORMAT, "no capture plan");
	if (h->ops > PLAN_OPS_MAX || !h->text_size || h->text_size > PLAN_TEXT_MAX ||
	    size != sizeof(*h) + (size_t)h->ops * sizeof(struct plan_op) + h->text_size)
		return error_create(ERROR_FORMAT, "a capture plan of %u operations and %u bytes of text in %zu bytes",
				    h->ops, h->text_size, size);
	if (!h->cpus || h->cpus > PLAN_CPUS_MAX)
		return error_create(ERROR_FORMAT, "a capture plan for %u CPUs", h->cpus);
	if (!h->max_bytes || h->max_bytes > PLAN_BYTES_MAX || !h->max_steps || !h->max_ns)
		return error_create(ERROR_FORMAT, "a capture plan without its limits");
	return NULL;
}

static bool size_is_word(u64 size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

/* Whether what an operation says makes sense by itself. */
static bool op_is_good(const struct plan_header *h, const struct plan_op *op)
{
	if (op->reg >= PLAN_REGISTERS || op->reg2 >= PLAN_REGISTERS || op->path >= h->text_size)
		return false;
	switch ((enum plan_kind)op->kind) {
	case PLAN_COPY:
		return op->b && op->b <= PLAN_COPY_MAX && !op->below;
	case PLAN_COPY_SIZED:
		return op->limit <= PLAN_COPY_MAX && !op->below;
	case PLAN_SET:
		return !op->below;
	case PLAN_LOAD:
		return size_is_word(op->b) && !op->below;
	case PLAN_PER_CPU:
		return !(op->flags & PLAN_ONE) || op->a < h->cpus;
	case PLAN_IF_TEXT:
		return op->b && op->b <= PLAN_NAME_MAX && op->c < h->text_size;
	case PLAN_XARRAY:
		return (op->c >> 32) <= 64 && (op->c & 0xffff) <= 4096 &&
		       ((op->c >> 16) & 0xffff) + (op->c >> 32) * sizeof(u64) <= (op->c & 0xffff);
	case PLAN_STRING:
		return op->limit && op->limit <= PLAN_STRING_MAX && !op->below;
	case PLAN_PAGES:
		return op->c <= PLAN_PAGES_MAX && op->limit <= PLAN_COPY_MAX && !op->below;
	case PLAN_CALC:
		return op->a < CALC_KINDS && !op->below;
	case PLAN_AT:
	case PLAN_MOVE:
	case PLAN_FOLLOW:
	case PLAN_ARRAY:
	case PLAN_ARRAY_SIZED:
	case PLAN_LIST:
	case PLAN_CHAIN:
	case PLAN_RBTREE:
	case PLAN_IF:
		return true;
	case PLAN_KINDS:
		break;
	}
	return false;
}

/* Each tree has to end within the one that it is part of. */
static struct error *check_ops(const struct plan *p)
{
	u32 ends[PLAN_DEPTH];
	u32 depth = 0;

	for (u32 i = 0; i < p->header.ops; i++) {
		const struct plan_op *op = &p->ops[i];

		while (depth && i == ends[depth - 1])
			depth--;

		u32 left = (depth ? ends[depth - 1] : p->header.ops) - i - 1;

		if (op->below > left)
			return error_create(ERROR_FORMAT,
					    "operation %u of the capture plan has a tree of %u of the %u left", i,
					    op->below, left);
		if (!op_is_good(&p->header, op))
			return error_create(ERROR_FORMAT, "operation %u of the capture plan (kind %u) makes no sense",
					    i, op->kind);
		if (!op->below)
			continue;
		if (depth == PLAN_DEPTH)
			return error_create(ERROR_FORMAT, "the capture plan is nested more than %d deep", PLAN_DEPTH);
		ends[depth++] = i + 1 + op->below;
	}
	return NULL;
}

struct error *plan_create(const void *bytes, size_t size, struct plan **ret)
{
	struct plan_header header;

	if (size < sizeof(header))
		return error_create(ERROR_FORMAT, "a capture plan of %zu bytes", size);
	memcpy(&header, bytes, sizeof(header));

	struct error *err = check_header(&header, size);

	if (err)
		return err;

	struct plan *p = malloc(sizeof(*p) + size);

	if (!p)
		return error_no_memory();
	p->users = 1;
	memcpy(p->bytes, bytes, size);
	p->header = header;
	p->ops = (const struct plan_op *)(p->bytes + sizeof(header));
	p->text = (const char *)(p->ops + header.ops);
	err = p->text[header.text_size - 1] ? error_create(ERROR_FORMAT, "the capture plan's text does not end") :
					      check_ops(p);
	if (err) {
		plan_put(p);
		return err;
	}
	*ret = p;
	return NULL;
}

struct plan *plan_get(struct plan *p)
{
	__atomic_fetch_add(&p->users, 1, __ATOMIC_RELAXED);
	return p;
}

void plan_put(struct plan *p)
{
	if (p && !__atomic_sub_fetch(&p->users, 1, __ATOMIC_ACQ_REL))
		free(p);
}

u32 plan_cpus(const struct plan *p)
{
	return p->header.cpus;
}
