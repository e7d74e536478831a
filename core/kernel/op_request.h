/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's request for operations on its kernel's memory (tlv/wire.h), entry by entry.
 * Depends on base and tlv. Allocates nothing; entries point into the payload.
 * A request that opens without an error is whole: every entry that it has makes sense, and every string ends.
 */
#ifndef KERNEL_OP_REQUEST_H
#define KERNEL_OP_REQUEST_H

#include "base/error.h"
#include "base/types.h"
#include "tlv/codec.h"

struct op_request {
	u32 request_id;
	bool cold;
	u32 count; /* entries */
	struct attr_reader entries; /* those that are still to come */
	struct attr next; /* what begins the next one */
};

enum op_where {
	OP_AT_SYMBOL = 1,
	OP_AT_ADDRESS,
	OP_AT_TASK,
};

/* What was not given is 0, or an empty string. */
struct op_entry {
	u32 op; /* enum wire_kernel_op */
	u32 where; /* enum op_where */
	bool has_cpu, has_value, has_data, has_length;
	u32 cpu, pid;
	u64 address, value, length;
	const u8 *data;
	u64 data_size;
	char symbol[KERNEL_OP_SYMBOL_MAX + 1];
	char field[KERNEL_OP_FIELD_MAX + 1];
	char structure[KERNEL_OP_STRUCT_MAX + 1];
	char type[KERNEL_OP_TYPE_MAX + 1];
};

/*
 * ERROR_FORMAT says what is wrong, and with which entry (from 1). request_id is set all the same where there are
 * bytes of one, else 0.
 */
MUST_CHECK struct error *op_request_open(const void *payload, size_t size, struct op_request *ret);
/* The next entry of a request that was opened; false when there is none any more. */
bool op_request_next(struct op_request *r, struct op_entry *ret);

#endif
