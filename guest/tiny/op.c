// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/op.h"

#include "tiny/console.h"
#include "tiny/print.h"
#include "tiny/report.h"
#include "tiny/trap.h"

struct op op_receive(void)
{
	struct wire_op_request head;
	struct frame frame;

	do
		frame = console_receive();
	while (frame.type != MSG_OP_REQUEST || frame.length < sizeof(head));
	memcpy(&head, frame.payload, sizeof(head));
	return (struct op){
		.id = head.request_id,
		.op = head.op,
		.body = (const u8 *)frame.payload + sizeof(head),
		.length = frame.length - sizeof(head),
	};
}

bool op_attr(const struct op *op, u32 type, struct attr *ret)
{
	struct attr_reader r = attr_reader_init(op->body, op->length);

	while (attr_next(&r, ret))
		if (ret->info->type == type)
			return true;
	return false;
}

u64 op_number(const struct op *op, u32 type, u64 otherwise)
{
	struct attr a;

	return op_attr(op, type, &a) ? attr_u64(&a) : otherwise;
}

static void answer(const struct op *op, u32 error, const void *data, size_t n)
{
	static struct {
		struct wire_op_reply head;
		u8 data[OP_REPLY_DATA_MAX];
	} reply;

	reply.head = (struct wire_op_reply){ .request_id = op->id, .error = error };
	memcpy(reply.data, data, n);
	console_send(MSG_OP_REPLY, &reply, (u32)(sizeof(reply.head) + n));
}

void op_reply(const struct op *op, const void *data, size_t n)
{
	answer(op, 0, data, n);
}

void op_fail(const struct op *op, u32 error)
{
	answer(op, error, NULL, 0);
}

static void go_on(const struct op *op)
{
	struct attr run_id;

	if (!op_attr(op, ATTR_RUN_ID, &run_id)) {
		op_fail(op, ERRNO_INVAL);
		return;
	}
	report_restored(&run_id);
	op_reply(op, NULL, 0);
}

__attribute__((noreturn)) static void shut_down(const struct op *op)
{
	struct attr code;

	op_reply(op, NULL, 0);
	report_exit(op_attr(op, ATTR_CODE, &code) ? attr_s32(&code) : 0);
	machine_power_off();
}

bool op_answer_common(const struct op *op)
{
	if (op->op == OP_PING)
		op_reply(op, NULL, 0);
	else if (op->op == OP_RESTORED)
		go_on(op);
	else if (op->op == OP_SHUTDOWN)
		shut_down(op);
	else
		return false;
	return true;
}
