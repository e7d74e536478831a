/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's requests to the guest, one at a time, and the answers to them.
 * Depends on console.h; it is open. What an op holds lies in the frame, valid until the next one is received.
 * Each op is answered once.
 */
#ifndef TINY_OP_H
#define TINY_OP_H

#include "tlv/codec.h"

struct op {
	u32 id, op;
	const u8 *body;
	size_t length;
};

/* Linux's numbers, which replies use. */
enum {
	ERRNO_NOENT = 2,
	ERRNO_INVAL = 22,
	ERRNO_FBIG = 27,
	ERRNO_NOSYS = 38,
};

enum { OP_REPLY_DATA_MAX = 3900 };

/* Waits for the next request; other frames are dropped. */
struct op op_receive(void);
/* Its attribute of that type, the first one. */
bool op_attr(const struct op *op, u32 type, struct attr *ret);
/* A number's value, or that one. */
u64 op_number(const struct op *op, u32 type, u64 otherwise);

/* At most OP_REPLY_DATA_MAX bytes. */
void op_reply(const struct op *op, const void *data, size_t n);
void op_fail(const struct op *op, u32 error);
/* An answer to OP_SHUTDOWN, EXIT with its code, and the machine's power. */
__attribute__((noreturn)) void op_shut_down(const struct op *op);

#endif
