/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What other programs of the guest say to the agent by its Unix sockets, and what it answers.
 * Depends on tlv/wire.h alone: the agent and those programs share it.
 * A connection (SOCK_SEQPACKET) carries one request and one answer, a packet each; then the agent closes it.
 *
 * The length of a packet is the length of its text, which has no NUL. Whoever asks may end its sending side
 * and wait on; one that closes the connection is forgotten.
 */
#ifndef AGENT_LOCAL_H
#define AGENT_LOCAL_H

#include "tlv/wire.h"

#define LOCAL_SOCKET "/run/ktstr.sock" /* for captures */
#define LOCAL_KERNEL_SOCKET "/run/ktstr-kernel.sock" /* for kernel operations */

enum { LOCAL_REASON_MAX = 1000 };

struct local_request {
	u32 kind; /* enum wire_snapshot_kind: SNAPSHOT_CAPTURE */
	char name[WIRE_TAG_SIZE]; /* 1 to 64 printable characters of ASCII, the blank among them */
};

struct local_answer {
	u32 status; /* enum wire_snapshot_status */
	char reason[LOCAL_REASON_MAX]; /* may be empty */
};

/* What is wrong with a capture's name of n bytes; NULL when it will do. */
static inline const char *local_name_check(const char *name, size_t n)
{
	if (!n)
		return "a name cannot be empty";
	if (n > WIRE_TAG_SIZE)
		return "a name has at most 64 characters";
	for (size_t i = 0; i < n; i++)
		if (name[i] < ' ' || name[i] > '~')
			return "a name has printable ASCII characters only";
	return NULL;
}

/* What is wrong with a request's packet of n bytes, of which as many are there as fit; NULL: nothing. */
static inline const char *local_request_check(const struct local_request *request, size_t n)
{
	if (n < offsetof(struct local_request, name))
		return "the request is too short";
	if (request->kind != SNAPSHOT_CAPTURE)
		return "the agent takes requests for captures only";
	return local_name_check(request->name, n - offsetof(struct local_request, name));
}

/*
 * A kernel operation's packet is a frame's payload as wire.h has it, but that its first word, which is to be the
 * request's id, says what it is; the answer is a frame's payload, too.
 */
enum { LOCAL_KERNEL_OP = MSG_KERNEL_OP_REQUEST };

/* What is wrong with a packet of n bytes that begins so; NULL: nothing that the agent would know. */
static inline const char *local_kernel_request_check(u32 first, size_t n)
{
	if (n < sizeof(struct wire_kernel_op_request))
		return "the request is too short";
	if (n > KERNEL_OP_REQUEST_MAX)
		return "the request is longer than 64 KiB";
	if (first != LOCAL_KERNEL_OP)
		return "the agent takes requests for kernel operations only";
	return NULL;
}

#endif
