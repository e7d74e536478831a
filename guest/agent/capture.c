// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/capture.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/local.h"

/* Accepted in a turn: the rest of the agent gets its steps in between. */
enum { ACCEPTS_A_TURN = 16,
       BACKLOG = 64 };

/* Short of descriptors or memory: nothing announces that there are some again. */
#define ACCEPT_AGAIN_NS (100 * 1000000ull)

struct capture_client {
	struct source source;
	int fd; /* -1: nobody */
	bool readable, gone;
	bool named; /* has asked for name; the host does not know it yet */
	u32 id; /* of the request that the host knows; 0: none */
	u64 order; /* of arrival */
	char name[WIRE_TAG_SIZE]; /* NUL-padded */
};

struct captures {
	struct source source;
	int fd; /* -1: there is none */
	bool waiting; /* somebody may want to be let in */
	u32 last_id;
	u64 arrivals;
	struct capture_client clients[CAPTURE_CLIENTS_MAX];
};

static void listener_ready(struct agent *agent, struct source *source, u32 events)
{
	container_of(source, struct captures, source)->waiting = true;
}

static void client_ready(struct agent *agent, struct source *source, u32 events)
{
	struct capture_client *c = container_of(source, struct capture_client, source);

	/* Both directions are over. One that only ended its sending still waits for its answer. */
	if (events & (EPOLLHUP | EPOLLERR))
		c->gone = true;
	c->readable = true;
}

static int listen_at(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return ENAMETOOLONG;
	strcpy(address.sun_path, path);
	/* Nobody gets in before listen(), so nobody finds it with other permissions. */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || chmod(path, 0666) || listen(fd, BACKLOG))
		return errno;
	return 0;
}

int captures_init(struct agent *agent, const char *path)
{
	struct captures *captures = calloc(1, sizeof(*captures));
	int error;

	if (!captures)
		return ENOMEM;
	for (u32 i = 0; i < CAPTURE_CLIENTS_MAX; i++)
		captures->clients[i].fd = -1;
	agent->captures = captures;
	captures->source.ready = listener_ready;
	captures->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (captures->fd < 0)
		return errno;
	error = listen_at(captures->fd, path);
	if (!error)
		error = source_add(agent, &captures->source, captures->fd, EPOLLIN);
	if (error)
		source_close(agent, &captures->fd);
	return error;
}

/* --- answers --- */

/* Ends both directions first, so that nothing more can come in: a connection that is closed with something
 * unread in it is reset, and its peer may see that instead of the answer. */
static void hang_up(struct agent *agent, int *fd)
{
	struct local_request unread;

	shutdown(*fd, SHUT_RDWR);
	while (recv(*fd, &unread, sizeof(unread), MSG_DONTWAIT) > 0)
		;
	source_close(agent, fd);
}

static void send_answer(int fd, u32 status, const char *reason)
{
	struct local_answer packet = { .status = status };
	size_t n = strlen(reason);

	n = n < sizeof(packet.reason) ? n : sizeof(packet.reason);
	memcpy(packet.reason, reason, n);
	/* Whoever has gone meanwhile does not miss it. */
	send(fd, &packet, offsetof(struct local_answer, reason) + n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void drop_client(struct agent *agent, struct capture_client *c)
{
	hang_up(agent, &c->fd);
	*c = (struct capture_client){ .fd = -1 };
}

static void answer_client(struct agent *agent, struct capture_client *c, u32 status, const char *reason)
{
	send_answer(c->fd, status, reason);
	drop_client(agent, c);
}

static struct capture_client *find_request(struct captures *captures, u32 id)
{
	for (u32 i = 0; id && i < CAPTURE_CLIENTS_MAX; i++)
		if (captures->clients[i].id == id)
			return &captures->clients[i];
	return NULL;
}

void captures_take_reply(struct agent *agent, const void *payload, size_t length)
{
	struct wire_snapshot_reply head;
	struct capture_client *c;
	struct attr_reader r;
	struct attr a;
	char reason[LOCAL_REASON_MAX + 1] = "";

	if (length < sizeof(head)) {
		agent_log(agent, "a snapshot's reply of %zu bytes has no id", length);
		return;
	}
	memcpy(&head, payload, sizeof(head));
	c = agent->captures ? find_request(agent->captures, head.request_id) : NULL;
	if (!c)
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
	answer_client(agent, c, head.status, reason);
}

/* --- requests --- */

static u32 next_id(struct captures *captures)
{
	do
		captures->last_id++;
	while (!captures->last_id || find_request(captures, captures->last_id));
	return captures->last_id;
}

/* Takes in the name that a client asks for. */
static void read_request(struct agent *agent, struct capture_client *c)
{
	struct local_request request;
	/* The length is the packet's own, however much of it fits. */
	ssize_t n = recv(c->fd, &request, sizeof(request), MSG_DONTWAIT | MSG_TRUNC);
	const char *wrong;

	if (n < 0 && errno == EAGAIN) {
		c->readable = false;
		return;
	}
	if (n < 0) {
		drop_client(agent, c);
		return;
	}
	wrong = local_request_check(&request, (size_t)n);
	if (wrong) {
		answer_client(agent, c, SNAPSHOT_FAILED, wrong);
		return;
	}
	memcpy(c->name, request.name, (size_t)n - offsetof(struct local_request, name));
	c->named = true;
}

static void send_request(struct agent *agent, struct capture_client *c)
{
	struct wire_snapshot_request request = { .kind = SNAPSHOT_CAPTURE };
	u8 *payload = port_frame(&agent->port, sizeof(request));

	if (!payload) {
		agent->again = true;
		return;
	}
	request.request_id = c->id = next_id(agent->captures);
	memcpy(request.tag, c->name, sizeof(request.tag));
	memcpy(payload, &request, sizeof(request));
	port_frame_done(&agent->port, MSG_SNAPSHOT_REQUEST, sizeof(request));
	c->named = false;
}

static void step_client(struct agent *agent, struct capture_client *c)
{
	if (c->fd < 0)
		return;
	if (c->gone) {
		drop_client(agent, c);
		return;
	}
	if (!c->id && !c->named && c->readable)
		read_request(agent, c);
	if (c->named)
		send_request(agent, c);
}

/* --- newcomers --- */

/* A place for a newcomer: a free one, or that of who has said nothing for longest. NULL: all have asked. */
static struct capture_client *make_place(struct agent *agent, struct captures *captures)
{
	struct capture_client *silent = NULL;

	for (u32 i = 0; i < CAPTURE_CLIENTS_MAX; i++) {
		struct capture_client *c = &captures->clients[i];

		if (c->fd < 0)
			return c;
		if (!c->id && !c->named && (!silent || c->order < silent->order))
			silent = c;
	}
	if (silent)
		answer_client(agent, silent, SNAPSHOT_FAILED,
			      "too many others came while nothing was asked for here");
	return silent;
}

static void take_in(struct agent *agent, int fd)
{
	struct captures *captures = agent->captures;
	struct capture_client *c = make_place(agent, captures);
	char reason[80];

	if (!c) {
		snprintf(reason, sizeof(reason), "%d captures are being asked for already", CAPTURE_CLIENTS_MAX);
		send_answer(fd, SNAPSHOT_FAILED, reason);
		hang_up(agent, &fd);
		return;
	}
	*c = (struct capture_client){
		.source.ready = client_ready,
		.fd = fd,
		.readable = true,
		.order = ++captures->arrivals,
	};
	if (source_add(agent, &c->source, fd, EPOLLIN))
		answer_client(agent, c, SNAPSHOT_FAILED, "the agent has no memory for one more connection");
	/* At once: the next newcomer must not take it for one that says nothing. */
	step_client(agent, c);
}

/* The next one who wants in; -1 when there is nobody, or no telling. */
static int accept_next(struct agent *agent, struct captures *captures)
{
	int fd;

	do
		fd = accept4(captures->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0 && errno == EAGAIN)
		captures->waiting = false;
	else if (fd < 0)
		agent_wake_at(agent, agent->now + ACCEPT_AGAIN_NS);
	return fd;
}

static void accept_some(struct agent *agent, struct captures *captures)
{
	for (u32 i = 0; captures->waiting; i++) {
		int fd;

		if (i == ACCEPTS_A_TURN) {
			/* Whether or not the port has room. */
			agent_wake_at(agent, agent->now);
			return;
		}
		fd = accept_next(agent, captures);
		if (fd < 0)
			return;
		take_in(agent, fd);
	}
}

/* Who waits is told, and whoever still comes. */
static void refuse_all(struct agent *agent, struct captures *captures)
{
	static const char reason[] = "the machine is shutting down";
	int fd;

	for (u32 i = 0; i < CAPTURE_CLIENTS_MAX; i++)
		if (captures->clients[i].fd >= 0)
			answer_client(agent, &captures->clients[i], SNAPSHOT_FAILED, reason);
	for (u32 i = 0; i <= BACKLOG && (fd = accept_next(agent, captures)) >= 0; i++) {
		send_answer(fd, SNAPSHOT_FAILED, reason);
		hang_up(agent, &fd);
	}
}

void captures_step(struct agent *agent)
{
	struct captures *captures = agent->captures;

	if (!captures || captures->fd < 0)
		return;
	if (agent->shutdown.request_id) {
		refuse_all(agent, captures);
		return;
	}
	for (u32 i = 0; i < CAPTURE_CLIENTS_MAX; i++)
		step_client(agent, &captures->clients[i]);
	accept_some(agent, captures);
}
