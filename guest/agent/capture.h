/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Captures that programs of the guest ask for: their requests by the socket, on to the host, and the answers.
 * Depends on agent/agent.h; local.h is what is said on the socket.
 * Whoever asks properly and stays gets one answer, and nobody who asks can hold up the agent.
 */
#ifndef AGENT_CAPTURE_H
#define AGENT_CAPTURE_H

#include "agent/agent.h"

/* Asking at a time. A newcomer takes the place of one that is connected and has said nothing; where all have
 * asked, it is refused. */
enum { CAPTURE_CLIENTS_MAX = 64 };

/* Listens there, for every user. Makes agent->captures; returns 0 or an errno. */
int captures_init(struct agent *agent, const char *path);

void captures_step(struct agent *agent);
/* MSG_SNAPSHOT_REPLY. One to nobody here is dropped: who asked for it has gone. */
void captures_take_reply(struct agent *agent, const void *payload, size_t length);

#endif
