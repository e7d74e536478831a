// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/ask.h"
#include "agent/cgroup.h"
#include "agent/files.h"
#include "agent/helper.h"
#include "agent/program.h"
#include "agent/restored.h"
#include "agent/self.h"
#include "agent/shutdown.h"
#include "agent/workers.h"

/* Requests answered in a turn: the rest of the agent gets its steps in between. */
enum { REQUESTS_A_TURN = 16 };

static int op_ping(struct agent *agent, const struct request *q, struct fail *f)
{
	reply_empty(agent, q->id);
	return 0;
}

/* Returns 0 when the operation has answered or will; else the errno to answer with. */
typedef int (*op_handler)(struct agent *agent, const struct request *q, struct fail *f);

static op_handler find_handler(u32 op)
{
	switch ((enum wire_op)op) {
	case OP_SPAWN:
	case OP_EXEC:
		return op_start;
	case OP_WAIT:
		return op_wait;
	case OP_KILL:
		return op_kill;
	case OP_STDIN:
		return op_stdin;
	case OP_READ:
		return op_read;
	case OP_WRITE:
		return op_write;
	case OP_LOAD_MODULES:
		return op_load_modules;
	case OP_CGROUP_CREATE:
		return op_cgroup_create;
	case OP_CGROUP_REMOVE:
		return op_cgroup_remove;
	case OP_WORKERS_CREATE:
		return op_workers_create;
	case OP_WORKERS_START:
		return op_workers_start;
	case OP_WORKERS_STOP:
		return op_workers_stop;
	case OP_SHUTDOWN:
		return op_shutdown;
	case OP_SELF:
		return op_self;
	case OP_PING:
		return op_ping;
	case OP_RESTORED:
		return op_restored;
	}
	return NULL;
}

bool reply_has_room(const struct agent *agent)
{
	return port_has_room(&agent->port, sizeof(struct wire_op_reply) + REPLY_SMALL);
}

/* There is room, or this was called without asking: then nothing is better than a crash. */
static struct attr_writer begin(struct agent *agent, u32 request_id, u32 error)
{
	struct wire_op_reply head = { .request_id = request_id, .error = error };
	u8 *payload = port_frame(&agent->port, sizeof(head) + REPLY_SMALL);

	if (!payload) {
		agent_log(agent, "no room for the reply to request %u", request_id);
		return attr_writer_init(NULL, 0);
	}
	memcpy(payload, &head, sizeof(head));
	return attr_writer_init(payload + sizeof(head), REPLY_SMALL);
}

struct attr_writer reply_begin(struct agent *agent, u32 request_id)
{
	return begin(agent, request_id, 0);
}

void reply_end(struct agent *agent, const struct attr_writer *attrs)
{
	if (attrs->data)
		port_frame_done(&agent->port, MSG_OP_REPLY, sizeof(struct wire_op_reply) + attrs->size);
}

void reply_empty(struct agent *agent, u32 request_id)
{
	struct attr_writer w = reply_begin(agent, request_id);

	reply_end(agent, &w);
}

void reply_fail(struct agent *agent, u32 request_id, const struct fail *f)
{
	struct attr_writer w = begin(agent, request_id, (u32)f->error);

	attr_put_string(&w, ATTR_MESSAGE, f->message);
	reply_end(agent, &w);
}

int take_string(const struct attr *a, char *out, size_t capacity, struct fail *f)
{
	if (attr_string(a, out, capacity))
		return 0;
	out[0] = 0;
	return fail_with(f, ENAMETOOLONG, "%s of %zu bytes is too long", a->info->name, a->length);
}

int fail_malformed(struct fail *f)
{
	return fail_with(f, EINVAL, "malformed attributes");
}

static void serve(struct agent *agent, const struct frame *frame)
{
	struct wire_op_request head;
	struct fail f = { 0 };
	op_handler handler;
	int error;

	if (frame->type == MSG_SNAPSHOT_REPLY)
		ask_take_snapshot_reply(agent, frame->payload, frame->length);
	if (frame->type == MSG_KERNEL_OP_REPLY)
		ask_take_kernel_op_reply(agent, frame->payload, frame->length);
	if (frame->type != MSG_OP_REQUEST)
		return;
	if (frame->length < sizeof(head)) {
		agent_log(agent, "a request of %u bytes has no id", frame->length);
		return;
	}
	memcpy(&head, frame->payload, sizeof(head));

	struct request q = {
		.id = head.request_id,
		.op = head.op,
		.body = (const u8 *)frame->payload + sizeof(head),
		.length = frame->length - sizeof(head),
	};

	handler = find_handler(q.op);
	if (!q.id)
		error = fail_with(&f, EINVAL, "a request's id cannot be 0");
	else if (!handler)
		error = fail_with(&f, ENOSYS, "the agent knows no operation %u", q.op);
	else if (agent->shutdown.request_id)
		error = fail_with(&f, ESHUTDOWN, "the machine is shutting down");
	else
		error = handler(agent, &q, &f);
	if (error)
		reply_fail(agent, q.id, &f);
}

void requests_step(struct agent *agent)
{
	for (int served = 0; served < REQUESTS_A_TURN; served++) {
		struct frame frame;

		if (!port_has_room(&agent->port, REPLY_MAX + REPLY_SMALL)) {
			agent->again = true;
			return;
		}
		while (!frame_reader_next(&agent->port.in, &frame))
			if (!port_fill(&agent->port))
				return;
		serve(agent, &frame);
	}
	agent->again = true;
}
