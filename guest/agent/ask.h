/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What programs of the guest ask the host for: their requests by a socket, on to the host, and the answers.
 * Depends on agent/agent.h; local.h is what is said on the sockets. There is a socket for each kind of request.
 * Whoever asks properly and stays gets one answer, and nobody who asks can hold up the agent.
 */
#ifndef AGENT_ASK_H
#define AGENT_ASK_H

#include <sys/types.h>

#include "agent/agent.h"

/* Asking at a time, at one socket. A newcomer takes the place of one that is connected and has said nothing;
 * where all have asked, it is refused. */
enum { ASKERS_MAX = 64 };

/* A connection. */
struct asker {
	struct source source;
	int fd; /* -1: nobody */
	bool readable, gone;
	bool asked; /* has said what it wants; the host does not know it yet */
	u32 id; /* of the request that the host knows; 0: none */
	u64 order; /* of arrival */
	size_t size; /* of its packet */
	char name[WIRE_TAG_SIZE]; /* a capture's, NUL-padded */
};

/* What a socket is for. */
struct ask_kind {
	const char *what; /* "captures" */
	mode_t mode; /* of the socket: who may ask */
	/* Looks at a packet, if there is one, as recv() does; *wrong says why it cannot be asked. */
	ssize_t (*read)(struct asker *a, const char **wrong);
	/* Sends it on, with a->id; false: there is no room for it now. */
	bool (*send)(struct agent *agent, struct asker *a);
	void (*refuse)(int fd, const char *reason);
};

extern const struct ask_kind ask_captures, ask_kernel_ops;

struct askers;

/* Listens there. Makes *ret; returns 0 or an errno. */
int askers_init(struct agent *agent, struct askers **ret, const struct ask_kind *kind, const char *path);
/* askers may be NULL. */
void askers_step(struct agent *agent, struct askers *askers);

/* Who has asked the host for that; NULL: it has gone. askers may be NULL. */
struct asker *asker_find(struct askers *askers, u32 id);
/* It has got its answer. */
void asker_done(struct agent *agent, struct asker *a);

/* Replies of the host's. One to nobody here is dropped: who asked for it has gone. */
void ask_take_snapshot_reply(struct agent *agent, const void *payload, size_t length);
void ask_take_kernel_op_reply(struct agent *agent, const void *payload, size_t length);

#endif
