/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's requests to the guest, one at a time, and the answers to them.
 * Depends on console.h and report.h; the console is open. Each op is answered once.
 * What an op holds lies in its frame, which is valid until the next one is received.
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

/*
 * Answers what every guest that listens knows: OP_PING; OP_RESTORED, with SYS_RDY and the RUN_ID given before the
 * reply, EINVAL where none is; OP_SHUTDOWN, with EXIT and its code behind the reply, and the end of the machine.
 * False: it is another, and has no answer yet.
 */
bool op_answer_common(const struct op *op);

#endif
