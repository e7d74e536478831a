// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Captures that programs of the guest ask for.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/ask.h"
#include "agent/local.h"

static void send_answer(int fd, u32 status, const char *reason)
{
	struct local_answer packet = { .status = status };
	size_t n = strlen(reason);

	n = n < sizeof(packet.reason) ? n : sizeof(packet.reason);
	memcpy(packet.reason, reason, n);
	/* Whoever has gone meanwhile does not miss it. */
	send(fd, &packet, offsetof(struct local_answer, reason) + n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void ask_take_snapshot_reply(struct agent *agent, const void *payload, size_t length)
{
	struct wire_snapshot_reply head;
	struct asker *asker;
	struct attr_reader r;
	struct attr a;
	char reason[LOCAL_REASON_MAX + 1] = "";

	if (length < sizeof(head)) {
		agent_log(agent, "a snapshot's reply of %zu bytes has no id", length);
		return;
	}
	memcpy(&head, payload, sizeof(head));
	asker = asker_find(agent->captures, head.request_id);
	if (!asker)
		return;
	r = attr_reader_init((const u8 *)payload + sizeof(head), length - sizeof(head));
	while (attr_next(&r, &a)) {
		if (a.info->type == ATTR_REASON) {
			/* The beginning of one that is too long says more than nothing. */
			a.length = a.length < LOCAL_REASON_MAX ? a.length : LOCAL_REASON_MAX;
			attr_string(&a, reason, sizeof(reason));
		}
	}
	if (head.status > SNAPSHOT_FAILED) {
		snprintf(reason, sizeof(reason), "the host answered with a status of %u, which means nothing here",
			 head.status);
		head.status = SNAPSHOT_FAILED;
	}
	send_answer(asker->fd, head.status, reason);
	asker_done(agent, asker);
}

/* Takes in the name that a client asks for. */
static ssize_t read_name(struct asker *a, const char **wrong)
{
	struct local_request request;
	/* The length is the packet's own, however much of it fits. */
	ssize_t n = recv(a->fd, &request, sizeof(request), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0)
		return n;
	*wrong = local_request_check(&request, (size_t)n);
	if (!*wrong)
		memcpy(a->name, request.name, (size_t)n - offsetof(struct local_request, name));
	return n;
}

static bool send_name(struct agent *agent, struct asker *a)
{
	struct wire_snapshot_request request = { .kind = SNAPSHOT_CAPTURE, .request_id = a->id };
	u8 *payload = port_frame(&agent->port, sizeof(request));

	if (!payload)
		return false;
	memcpy(request.tag, a->name, sizeof(request.tag));
	memcpy(payload, &request, sizeof(request));
	port_frame_done(&agent->port, MSG_SNAPSHOT_REQUEST, sizeof(request));
	return true;
}

static void refuse(int fd, const char *reason)
{
	send_answer(fd, SNAPSHOT_FAILED, reason);
}

const struct ask_kind ask_captures = {
	.what = "captures",
	.mode = 0666,
	.read = read_name,
	.send = send_name,
	.refuse = refuse,
};
