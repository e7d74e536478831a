// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Accepted in a turn: the rest of the agent gets its steps in between. */
enum { ACCEPTS_A_TURN = 16,
       BACKLOG = 64 };

/* Short of descriptors or memory: nothing announces that there are some again. */
#define ACCEPT_AGAIN_NS (100 * 1000000ull)

struct askers {
	struct source source;
	const struct ask_kind *kind;
	int fd; /* -1: there is none */
	bool waiting; /* somebody may want to be let in */
	u32 last_id;
	u64 arrivals;
	struct asker list[ASKERS_MAX];
};

static void listener_ready(struct agent *agent, struct source *source, u32 events)
{
	container_of(source, struct askers, source)->waiting = true;
}

static void asker_ready(struct agent *agent, struct source *source, u32 events)
{
	struct asker *a = container_of(source, struct asker, source);

	/* Both directions are over. One that only ended its sending still waits for its answer. */
	if (events & (EPOLLHUP | EPOLLERR))
		a->gone = true;
	a->readable = true;
}

static int listen_at(int fd, const char *path, mode_t mode)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return ENAMETOOLONG;
	strcpy(address.sun_path, path);
	/* Nobody gets in before listen(), so nobody finds it with other permissions. */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || chmod(path, mode) || listen(fd, BACKLOG))
		return errno;
	return 0;
}

int askers_init(struct agent *agent, struct askers **ret, const struct ask_kind *kind, const char *path)
{
	struct askers *askers = calloc(1, sizeof(*askers));
	int error;

	if (!askers)
		return ENOMEM;
	for (u32 i = 0; i < ASKERS_MAX; i++)
		askers->list[i].fd = -1;
	*ret = askers;
	askers->kind = kind;
	askers->source.ready = listener_ready;
	askers->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (askers->fd < 0)
		return errno;
	error = listen_at(askers->fd, path, kind->mode);
	if (!error)
		error = source_add(agent, &askers->source, askers->fd, EPOLLIN);
	if (error)
		source_close(agent, &askers->fd);
	return error;
}

/* --- answers --- */

/* Ends both directions first, so that nothing more can come in: a connection that is closed with something
 * unread in it is reset, and its peer may see that instead of the answer. */
static void hang_up(struct agent *agent, int *fd)
{
	char unread;

	shutdown(*fd, SHUT_RDWR);
	while (recv(*fd, &unread, sizeof(unread), MSG_DONTWAIT) > 0)
		;
	source_close(agent, fd);
}

void asker_done(struct agent *agent, struct asker *a)
{
	hang_up(agent, &a->fd);
	*a = (struct asker){ .fd = -1 };
}

static void refuse(struct agent *agent, const struct askers *askers, struct asker *a, const char *reason)
{
	askers->kind->refuse(a->fd, reason);
	asker_done(agent, a);
}

struct asker *asker_find(struct askers *askers, u32 id)
{
	for (u32 i = 0; askers && id && i < ASKERS_MAX; i++)
		if (askers->list[i].id == id)
			return &askers->list[i];
	return NULL;
}

/* --- requests --- */

static u32 next_id(struct askers *askers)
{
	do
		askers->last_id++;
	while (!askers->last_id || asker_find(askers, askers->last_id));
	return askers->last_id;
}

/* Takes in what a client asks for. */
static void read_request(struct agent *agent, const struct askers *askers, struct asker *a)
{
	const char *wrong = NULL;
	ssize_t n = askers->kind->read(a, &wrong);

	if (n < 0 && errno == EAGAIN)
		a->readable = false;
	else if (n < 0)
		asker_done(agent, a);
	else if (wrong)
		refuse(agent, askers, a, wrong);
	else
		a->asked = true;
}

static void send_request(struct agent *agent, struct askers *askers, struct asker *a)
{
	a->id = next_id(askers);
	if (askers->kind->send(agent, a)) {
		a->asked = false;
		return;
	}
	a->id = 0;
	agent->again = true;
}

static void step_asker(struct agent *agent, struct askers *askers, struct asker *a)
{
	if (a->fd < 0)
		return;
	if (a->gone) {
		asker_done(agent, a);
		return;
	}
	if (!a->id && !a->asked && a->readable)
		read_request(agent, askers, a);
	if (a->asked)
		send_request(agent, askers, a);
}

/* --- newcomers --- */

/* A place for a newcomer: a free one, or that of who has said nothing for longest. NULL: all have asked. */
static struct asker *make_place(struct agent *agent, struct askers *askers)
{
	struct asker *silent = NULL;

	for (u32 i = 0; i < ASKERS_MAX; i++) {
		struct asker *a = &askers->list[i];

		if (a->fd < 0)
			return a;
		if (!a->id && !a->asked && (!silent || a->order < silent->order))
			silent = a;
	}
	if (silent)
		refuse(agent, askers, silent, "too many others came while nothing was asked for here");
	return silent;
}

static void take_in(struct agent *agent, struct askers *askers, int fd)
{
	struct asker *a = make_place(agent, askers);
	char reason[80];

	if (!a) {
		snprintf(reason, sizeof(reason), "%d %s are being asked for already", ASKERS_MAX, askers->kind->what);
		askers->kind->refuse(fd, reason);
		hang_up(agent, &fd);
		return;
	}
	*a = (struct asker){
		.source.ready = asker_ready,
		.fd = fd,
		.readable = true,
		.order = ++askers->arrivals,
	};
	if (source_add(agent, &a->source, fd, EPOLLIN))
		refuse(agent, askers, a, "the agent has no memory for one more connection");
	/* At once: the next newcomer must not take it for one that says nothing. */
	step_asker(agent, askers, a);
}

/* The next one who wants in; -1 when there is nobody, or no telling. */
static int accept_next(struct agent *agent, struct askers *askers)
{
	int fd;

	do
		fd = accept4(askers->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0 && errno == EAGAIN)
		askers->waiting = false;
	else if (fd < 0)
		agent_wake_at(agent, agent->now + ACCEPT_AGAIN_NS);
	return fd;
}

static void accept_some(struct agent *agent, struct askers *askers)
{
	for (u32 i = 0; askers->waiting; i++) {
		int fd;

		if (i == ACCEPTS_A_TURN) {
			/* Whether or not the port has room. */
			agent_wake_at(agent, agent->now);
			return;
		}
		fd = accept_next(agent, askers);
		if (fd < 0)
			return;
		take_in(agent, askers, fd);
	}
}

/* Who waits is told, and whoever still comes. */
static void refuse_all(struct agent *agent, struct askers *askers)
{
	static const char reason[] = "the machine is shutting down";
	int fd;

	for (u32 i = 0; i < ASKERS_MAX; i++)
		if (askers->list[i].fd >= 0)
			refuse(agent, askers, &askers->list[i], reason);
	for (u32 i = 0; i <= BACKLOG && (fd = accept_next(agent, askers)) >= 0; i++) {
		askers->kind->refuse(fd, reason);
		hang_up(agent, &fd);
	}
}

void askers_step(struct agent *agent, struct askers *askers)
{
	if (!askers || askers->fd < 0)
		return;
	if (agent->shutdown.request_id) {
		refuse_all(agent, askers);
		return;
	}
	for (u32 i = 0; i < ASKERS_MAX; i++)
		step_asker(agent, askers, &askers->list[i]);
	accept_some(agent, askers);
}
