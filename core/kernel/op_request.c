// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/op_request.h"

#include <string.h>

/* Into the entry; NULL, or what is wrong. What is no part of an entry is passed over. */
static const char *take_attr(struct op_entry *e, const struct attr *a)
{
	switch (a->info->type) {
	case ATTR_SYMBOL:
		e->where |= 1u << OP_AT_SYMBOL;
		return attr_string(a, e->symbol, sizeof(e->symbol)) && a->length ? NULL : "the length of its SYMBOL";
	case ATTR_ADDRESS:
		e->where |= 1u << OP_AT_ADDRESS;
		e->address = attr_u64(a);
		return NULL;
	case ATTR_TASK:
		e->where |= 1u << OP_AT_TASK;
		e->pid = attr_u32(a);
		return NULL;
	case ATTR_CPU:
		e->has_cpu = true;
		e->cpu = attr_u32(a);
		return NULL;
	case ATTR_FIELD:
		return attr_string(a, e->field, sizeof(e->field)) && a->length ? NULL : "the length of its FIELD";
	case ATTR_STRUCT:
		return attr_string(a, e->structure, sizeof(e->structure)) ? NULL : "the length of its STRUCT";
	case ATTR_TYPE:
		return attr_string(a, e->type, sizeof(e->type)) ? NULL : "the length of its TYPE";
	case ATTR_VALUE:
		e->has_value = true;
		e->value = attr_u64(a);
		return NULL;
	case ATTR_DATA:
		e->has_data = true;
		e->data = a->value;
		e->data_size = a->length;
		return NULL;
	case ATTR_LENGTH:
		e->has_length = true;
		e->length = attr_u64(a);
		return NULL;
	}
	return NULL;
}

/* From a set of places to the one. */
static const char *settle_place(struct op_entry *e)
{
	u32 places = e->where;

	e->where = 0;
	for (u32 where = OP_AT_SYMBOL; where <= OP_AT_TASK; where++)
		if (places == 1u << where)
			e->where = where;
	if (!places)
		return "it says nowhere";
	if (!e->where)
		return "it says two places";
	if (e->where == OP_AT_TASK && !*e->field)
		return "a TASK without a FIELD";
	if (e->where == OP_AT_TASK && (e->pid == 0 || e->pid > INT32_MAX))
		return "its TASK is no pid";
	return NULL;
}

static const char *check_write(const struct op_entry *e)
{
	if (e->has_value == e->has_data)
		return "a WRITE has either a VALUE or DATA";
	if (*e->type && !strcmp(e->type, "bytes") != e->has_data)
		return "DATA goes with the type 'bytes', and a VALUE with another";
	if (e->has_data && (!e->data_size || e->data_size > KERNEL_OP_BYTES_MAX))
		return "the size of its DATA";
	return NULL;
}

static const char *check_value(const struct op_entry *e)
{
	if (e->has_length && (e->op != KERNEL_OP_READ || !e->length || e->length > KERNEL_OP_BYTES_MAX))
		return "its LENGTH";
	switch (e->op) {
	case KERNEL_OP_READ:
		return e->has_value || e->has_data ? "a READ with a value" : NULL;
	case KERNEL_OP_WRITE:
		return check_write(e);
	case KERNEL_OP_OR:
		if (!e->has_value || e->has_data)
			return "an OR has a VALUE";
		return e->value > UINT32_MAX ? "an OR's VALUE has at most 32 bits" : NULL;
	}
	return "its KERNEL_OP is none";
}

/* The entry that r->next begins; leaves in it what begins the one after, or info NULL. */
static const char *read_entry(struct op_request *r, struct op_entry *e)
{
	const char *wrong = NULL;
	struct attr a = { 0 };

	*e = (struct op_entry){ .op = attr_u32(&r->next) };
	while (!wrong && attr_next(&r->entries, &a) && a.info->type != ATTR_KERNEL_OP) {
		wrong = take_attr(e, &a);
		a.info = NULL;
	}
	if (r->entries.malformed) {
		wrong = "malformed attributes";
		a.info = NULL;
	}
	r->next = a;
	if (!wrong)
		wrong = settle_place(e);
	return wrong ? wrong : check_value(e);
}

/* The first entry's beginning. */
static const char *begin(struct op_request *r)
{
	r->next = (struct attr){ 0 };
	if (!attr_next(&r->entries, &r->next))
		return r->entries.malformed ? "malformed attributes" : "it has no entry";
	return r->next.info->type == ATTR_KERNEL_OP ? NULL : "it does not begin with an entry";
}

static const char *check_entries(struct op_request *r, u64 *bytes)
{
	struct op_entry e;

	while (r->next.info) {
		const char *wrong = r->count == KERNEL_OP_ENTRIES_MAX ? "it is one too many" : read_entry(r, &e);

		r->count++;
		if (wrong)
			return wrong;
		*bytes += e.has_length ? e.length : e.data_size;
	}
	return NULL;
}

static struct error *malformed(const struct op_request *r, const char *wrong)
{
	if (r->count)
		return error_create(ERROR_FORMAT, "the request is malformed: entry %u: %s", r->count, wrong);
	return error_create(ERROR_FORMAT, "the request is malformed: %s", wrong);
}

struct error *op_request_open(const void *payload, size_t size, struct op_request *ret)
{
	struct wire_kernel_op_request head = { 0 };
	u64 bytes = 0;

	*ret = (struct op_request){ 0 };
	if (size >= sizeof(head.request_id))
		memcpy(&ret->request_id, payload, sizeof(ret->request_id));
	if (size < sizeof(head) || size > KERNEL_OP_REQUEST_MAX)
		return malformed(ret, "its size");
	memcpy(&head, payload, sizeof(head));
	if (head.flags & ~(u32)KERNEL_OP_COLD)
		return malformed(ret, "its flags");
	ret->cold = head.flags & KERNEL_OP_COLD;
	ret->entries = attr_reader_init((const u8 *)payload + sizeof(head), size - sizeof(head));

	const struct attr_reader start = ret->entries;
	const char *wrong = begin(ret);

	if (!wrong)
		wrong = check_entries(ret, &bytes);
	if (!wrong && bytes > KERNEL_OP_BYTES_MAX)
		wrong = "it reads and writes more than 32 KiB of bytes";
	if (wrong)
		return malformed(ret, wrong);
	ret->entries = start;
	attr_next(&ret->entries, &ret->next);
	return NULL;
}

bool op_request_next(struct op_request *r, struct op_entry *ret)
{
	if (!r->next.info)
		return false;
	read_entry(r, ret);
	return true;
}
