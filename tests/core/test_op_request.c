// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/op_request.h"

/* A request as it is put together. */
struct packet {
	u8 data[KERNEL_OP_REQUEST_MAX + 64];
	struct attr_writer w;
};

static void begin(struct packet *p, u32 id, u32 flags)
{
	struct wire_kernel_op_request head = { .request_id = id, .flags = flags };

	memcpy(p->data, &head, sizeof(head));
	p->w = attr_writer_init(p->data + sizeof(head), sizeof(p->data) - sizeof(head));
}

static size_t size_of(const struct packet *p)
{
	assert_false(p->w.failed);
	return sizeof(struct wire_kernel_op_request) + p->w.size;
}

static void begin_entry(struct packet *p, u32 op, const char *symbol)
{
	attr_put_u32(&p->w, ATTR_KERNEL_OP, op);
	attr_put_string(&p->w, ATTR_SYMBOL, symbol);
}

static void assert_opens(struct packet *p, struct op_request *r)
{
	struct error *err = op_request_open(p->data, size_of(p), r);

	if (err)
		fail_msg("%s", error_message(err));
}

static void assert_refused(const void *data, size_t size, const char *words)
{
	struct op_request r;
	struct error *err = op_request_open(data, size, &r);

	assert_non_null(err);
	assert_int_equal(error_code(err), ERROR_FORMAT);
	if (!strstr(error_message(err), words))
		fail_msg("'%s' is not in '%s'", words, error_message(err));
	error_destroy(err);
}

static void entries_come_back_as_they_went(void **state)
{
	static struct packet p;
	struct op_request r;
	struct op_entry e;

	begin(&p, 7, KERNEL_OP_COLD);
	begin_entry(&p, KERNEL_OP_READ, "runqueues");
	attr_put_u32(&p.w, ATTR_CPU, 3);
	attr_put_string(&p.w, ATTR_FIELD, "curr.pid");
	attr_put_u32(&p.w, ATTR_KERNEL_OP, KERNEL_OP_WRITE);
	attr_put_u64(&p.w, ATTR_ADDRESS, 0xffff888000001000);
	attr_put_string(&p.w, ATTR_TYPE, "u64");
	attr_put_u64(&p.w, ATTR_VALUE, UINT64_MAX);
	attr_put_u32(&p.w, ATTR_KERNEL_OP, KERNEL_OP_WRITE);
	attr_put_u32(&p.w, ATTR_TASK, 1);
	attr_put_u32(&p.w, ATTR_CPU, 2);
	attr_put_string(&p.w, ATTR_FIELD, "comm");
	attr_put_data(&p.w, ATTR_DATA, "a\0b", 3);
	attr_put_u32(&p.w, ATTR_KERNEL_OP, KERNEL_OP_OR);
	attr_put_string(&p.w, ATTR_SYMBOL, "flags");
	attr_put_string(&p.w, ATTR_STRUCT, "struct x");
	attr_put_u64(&p.w, ATTR_VALUE, 4);
	begin_entry(&p, KERNEL_OP_READ, "linux_banner");
	attr_put_string(&p.w, ATTR_TYPE, "bytes");
	attr_put_u64(&p.w, ATTR_LENGTH, 100);

	assert_opens(&p, &r);
	assert_int_equal(r.request_id, 7);
	assert_true(r.cold);
	assert_int_equal(r.count, 5);
	assert_true(op_request_next(&r, &e));
	assert_int_equal(e.op, KERNEL_OP_READ);
	assert_int_equal(e.where, OP_AT_SYMBOL);
	assert_string_equal(e.symbol, "runqueues");
	assert_string_equal(e.field, "curr.pid");
	assert_true(e.has_cpu && e.cpu == 3 && !e.has_value && !e.has_data && !e.has_length && !*e.type);
	assert_true(op_request_next(&r, &e));
	assert_true(e.op == KERNEL_OP_WRITE && e.where == OP_AT_ADDRESS && e.address == 0xffff888000001000);
	assert_true(e.has_value && e.value == UINT64_MAX && !strcmp(e.type, "u64") && !*e.symbol && !e.has_cpu);
	assert_true(op_request_next(&r, &e));
	assert_true(e.where == OP_AT_TASK && e.pid == 1 && e.has_data && e.data_size == 3);
	assert_memory_equal(e.data, "a\0b", 3);
	assert_true(op_request_next(&r, &e));
	assert_true(e.op == KERNEL_OP_OR && e.value == 4 && !strcmp(e.structure, "struct x"));
	assert_true(op_request_next(&r, &e));
	assert_true(e.has_length && e.length == 100);
	assert_false(op_request_next(&r, &e));
	assert_false(op_request_next(&r, &e));
}

static void any_cut_is_refused(void **state)
{
	static struct packet p;

	begin(&p, 7, 0);
	begin_entry(&p, KERNEL_OP_READ, "a");
	for (size_t size = 0; size < size_of(&p); size++) {
		u8 *exact = malloc(size ? size : 1);
		struct op_request r;

		memcpy(exact, p.data, size);

		struct error *err = op_request_open(exact, size, &r);

		assert_non_null(err);
		assert_int_equal(r.request_id, size >= 4 ? 7 : 0);
		error_destroy(err);
		free(exact);
	}
}

struct fault {
	const char *words;
	u32 op;
	const char *symbol, *field, *type;
	bool address, task, value, data;
	u64 length, wide;
	u32 pid;
};

/* Each begins behind an entry that is good. */
static void each_fault_is_named_with_its_entry(void **state)
{
	static const struct fault faults[] = {
		{ "entry 2: it says nowhere", KERNEL_OP_READ, .symbol = NULL },
		{ "entry 2: it says two places", KERNEL_OP_READ, .symbol = "a", .address = true },
		{ "entry 2: it says two places", KERNEL_OP_READ, .task = true, .pid = 1, .address = true },
		{ "entry 2: a TASK without a FIELD", KERNEL_OP_READ, .task = true, .pid = 1 },
		{ "entry 2: its TASK is no pid", KERNEL_OP_READ, .task = true, .field = "a" },
		{ "entry 2: its TASK is no pid", KERNEL_OP_READ, .task = true, .pid = 0x80000000, .field = "a" },
		{ "entry 2: the length of its SYMBOL", KERNEL_OP_READ, .symbol = "" },
		{ "entry 2: the length of its FIELD", KERNEL_OP_READ, .symbol = "a", .field = "" },
		{ "entry 2: the length of its TYPE", KERNEL_OP_READ, .symbol = "a", .type = "unsigned" },
		{ "entry 2: a READ with a value", KERNEL_OP_READ, .symbol = "a", .value = true },
		{ "entry 2: a READ with a value", KERNEL_OP_READ, .symbol = "a", .data = true },
		{ "entry 2: a WRITE has either", KERNEL_OP_WRITE, .symbol = "a" },
		{ "entry 2: a WRITE has either", KERNEL_OP_WRITE, .symbol = "a", .value = true, .data = true },
		{ "entry 2: DATA goes with the type", KERNEL_OP_WRITE, .symbol = "a", .data = true, .type = "u8" },
		{ "entry 2: DATA goes with", KERNEL_OP_WRITE, .symbol = "a", .value = true, .type = "bytes" },
		{ "entry 2: an OR has a VALUE", KERNEL_OP_OR, .symbol = "a" },
		{ "entry 2: an OR's VALUE", KERNEL_OP_OR, .symbol = "a", .value = true, .wide = 1ULL << 32 },
		{ "entry 2: its KERNEL_OP is none", 0, .symbol = "a" },
		{ "entry 2: its KERNEL_OP is none", 4, .symbol = "a" },
		{ "entry 2: its LENGTH", KERNEL_OP_READ, .symbol = "a", .length = KERNEL_OP_BYTES_MAX + 1 },
		{ "entry 2: its LENGTH", KERNEL_OP_READ, .symbol = "a", .length = UINT64_MAX },
		{ "entry 2: its LENGTH", KERNEL_OP_WRITE, .symbol = "a", .value = true, .length = 4 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		static struct packet p;
		const struct fault *f = &faults[i];

		begin(&p, 1, 0);
		begin_entry(&p, KERNEL_OP_READ, "good");
		attr_put_u32(&p.w, ATTR_KERNEL_OP, f->op);
		if (f->symbol)
			attr_put_string(&p.w, ATTR_SYMBOL, f->symbol);
		if (f->field)
			attr_put_string(&p.w, ATTR_FIELD, f->field);
		if (f->type)
			attr_put_string(&p.w, ATTR_TYPE, f->type);
		if (f->address)
			attr_put_u64(&p.w, ATTR_ADDRESS, 4096);
		if (f->task)
			attr_put_u32(&p.w, ATTR_TASK, f->pid);
		if (f->value)
			attr_put_u64(&p.w, ATTR_VALUE, f->wide);
		if (f->data)
			attr_put_data(&p.w, ATTR_DATA, "x", 1);
		if (f->length)
			attr_put_u64(&p.w, ATTR_LENGTH, f->length);
		assert_refused(p.data, size_of(&p), f->words);
	}
}

static void a_request_that_is_none_is_refused(void **state)
{
	static struct packet p;

	begin(&p, 1, 0);
	assert_refused(p.data, size_of(&p), "it has no entry");
	attr_put_string(&p.w, ATTR_SYMBOL, "a");
	assert_refused(p.data, size_of(&p), "it does not begin with an entry");
	begin(&p, 1, 2);
	begin_entry(&p, KERNEL_OP_READ, "a");
	assert_refused(p.data, size_of(&p), "its flags");
	assert_refused(p.data, KERNEL_OP_REQUEST_MAX + 4, "its size");
}

static void names_have_a_longest_and_a_longer_one_is_refused(void **state)
{
	static struct packet p;
	char name[KERNEL_OP_SYMBOL_MAX + 2];
	struct op_request r;
	struct op_entry e;

	memset(name, 'n', sizeof(name));
	for (u32 extra = 0; extra < 2; extra++) {
		begin(&p, 1, 0);
		attr_put_u32(&p.w, ATTR_KERNEL_OP, KERNEL_OP_READ);
		attr_put_bytes(&p.w, ATTR_SYMBOL, name, KERNEL_OP_SYMBOL_MAX + extra);
		if (extra) {
			assert_refused(p.data, size_of(&p), "the length of its SYMBOL");
			continue;
		}
		assert_opens(&p, &r);
		assert_true(op_request_next(&r, &e));
		assert_int_equal(strlen(e.symbol), KERNEL_OP_SYMBOL_MAX);
	}
}

static void a_name_with_a_nul_in_it_is_refused(void **state)
{
	static const u32 types[] = { ATTR_SYMBOL, ATTR_FIELD, ATTR_STRUCT, ATTR_TYPE };

	for (u32 i = 0; i < ARRAY_SIZE(types) * 3; i++) {
		static struct packet p;

		begin(&p, 1, 0);
		begin_entry(&p, KERNEL_OP_READ, "good");
		begin_entry(&p, KERNEL_OP_READ, "good");
		attr_put_string(&p.w, types[i / 3], "abc");
		p.w.data[p.w.size - 4 + i % 3] = 0;
		assert_refused(p.data, size_of(&p), "entry 2: malformed attributes");
	}
}

static void entries_and_bytes_are_limited(void **state)
{
	static struct packet p;
	struct op_request r;

	begin(&p, 1, 0);
	for (u32 i = 0; i < KERNEL_OP_ENTRIES_MAX; i++)
		begin_entry(&p, KERNEL_OP_READ, "a");
	assert_opens(&p, &r);
	assert_int_equal(r.count, KERNEL_OP_ENTRIES_MAX);
	begin_entry(&p, KERNEL_OP_READ, "a");
	assert_refused(p.data, size_of(&p), "entry 1025: it is one too many");

	begin(&p, 1, 0);
	for (u32 i = 0; i < 2; i++) {
		begin_entry(&p, KERNEL_OP_READ, "a");
		attr_put_u64(&p.w, ATTR_LENGTH, KERNEL_OP_BYTES_MAX / 2);
	}
	assert_opens(&p, &r);
	begin_entry(&p, KERNEL_OP_READ, "a");
	attr_put_u64(&p.w, ATTR_LENGTH, 1);
	assert_refused(p.data, size_of(&p), "more than 32 KiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_come_back_as_they_went),
		cmocka_unit_test(any_cut_is_refused),
		cmocka_unit_test(each_fault_is_named_with_its_entry),
		cmocka_unit_test(a_request_that_is_none_is_refused),
		cmocka_unit_test(names_have_a_longest_and_a_longer_one_is_refused),
		cmocka_unit_test(a_name_with_a_nul_in_it_is_refused),
		cmocka_unit_test(entries_and_bytes_are_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
