// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Operations on the kernel's memory that programs of the guest ask for. The agent knows nothing of them: a packet is
 * the payload of a frame, in either direction. Until there is room for it on its way it stays in its connection.
 */
#include <string.h>
#include <sys/socket.h>

#include "agent/ask.h"
#include "agent/local.h"

void ask_take_kernel_op_reply(struct agent *agent, const void *payload, size_t length)
{
	struct wire_kernel_op_reply head;
	struct asker *a;

	if (length < sizeof(head)) {
		agent_log(agent, "a reply of %zu bytes to a kernel operation has no id", length);
		return;
	}
	memcpy(&head, payload, sizeof(head));
	a = asker_find(agent->kernel_ops, head.request_id);
	if (!a)
		return;
	/* Whoever has gone meanwhile does not miss it. */
	send(a->fd, payload, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	asker_done(agent, a);
}

static ssize_t look_at_request(struct asker *a, const char **wrong)
{
	u32 kind = 0;
	/* The length is the packet's own. */
	ssize_t n = recv(a->fd, &kind, sizeof(kind), MSG_DONTWAIT | MSG_TRUNC | MSG_PEEK);

	if (n < 0)
		return n;
	*wrong = local_kernel_request_check(kind, (size_t)n);
	a->size = (size_t)n;
	return n;
}

static bool send_request(struct agent *agent, struct asker *a)
{
	u8 *payload = port_frame(&agent->port, a->size);

	if (!payload)
		return false;
	/* It is there: nobody else reads it. */
	if (recv(a->fd, payload, a->size, MSG_DONTWAIT) != (ssize_t)a->size) {
		a->gone = true;
		return true;
	}
	/* In the place of what the packet has said about its kind. */
	memcpy(payload, &a->id, sizeof(a->id));
	port_frame_done(&agent->port, MSG_KERNEL_OP_REQUEST, a->size);
	return true;
}

static void refuse(int fd, const char *reason)
{
	u8 packet[sizeof(struct wire_kernel_op_reply) + 256];
	struct wire_kernel_op_reply head = { .status = KERNEL_OP_FAILED };
	struct attr_writer w = attr_writer_init(packet + sizeof(head), sizeof(packet) - sizeof(head));

	memcpy(packet, &head, sizeof(head));
	attr_put_string(&w, ATTR_REASON, reason);
	send(fd, packet, sizeof(head) + w.size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Only root: what is asked for here, root alone may do in the guest by itself. */
const struct ask_kind ask_kernel_ops = {
	.what = "kernel operations",
	.mode = 0600,
	.read = look_at_request,
	.send = send_request,
	.refuse = refuse,
};
