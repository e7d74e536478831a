// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest's request for kernel operations over any bytes. What is accepted has as many entries as it says, each
 * with an operation, one place, strings that end, and no more bytes than an answer can hold.
 */
#include <stdlib.h>
#include <string.h>

#include "kernel/op_request.h"

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static u64 check_entry(const struct op_entry *e, const u8 *payload, size_t size)
{
	expect(e->op >= KERNEL_OP_READ && e->op <= KERNEL_OP_OR);
	expect(e->where >= OP_AT_SYMBOL && e->where <= OP_AT_TASK);
	expect(memchr(e->symbol, 0, sizeof(e->symbol)) && memchr(e->field, 0, sizeof(e->field)));
	expect(memchr(e->structure, 0, sizeof(e->structure)) && memchr(e->type, 0, sizeof(e->type)));
	expect((e->where == OP_AT_SYMBOL) == (*e->symbol != 0));
	expect(e->where != OP_AT_TASK || (*e->field && e->pid));
	expect(!e->has_data || (e->data >= payload && e->data + e->data_size <= payload + size));
	expect(e->op != KERNEL_OP_READ || (!e->has_data && !e->has_value));
	expect(e->op == KERNEL_OP_READ || e->has_data != e->has_value);
	return e->has_length ? e->length : e->data_size;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	u8 *copy = malloc(size + !size); // its very size: the sanitizer sees a read past it
	struct op_request r;
	struct op_entry e;
	struct error *err;
	u64 bytes = 0;
	u32 count = 0;

	memcpy(copy, data, size);
	memset(&r, 0xa5, sizeof(r));
	err = op_request_open(copy, size, &r);
	expect(size < 4 ? !r.request_id : !memcmp(&r.request_id, data, 4));
	while (!err && op_request_next(&r, &e)) {
		bytes += check_entry(&e, copy, size);
		count++;
	}
	expect(err || (count == r.count && count >= 1 && count <= KERNEL_OP_ENTRIES_MAX));
	expect(bytes <= KERNEL_OP_BYTES_MAX);
	error_destroy(err);
	free(copy);
	return 0;
}
