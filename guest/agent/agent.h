/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent: one thread, one epoll loop, and everything that it has going on.
 * Depends on agent/port.h and agent/fail.h; the parts (program.h, workers.h, ...) depend on this.
 * A turn of the loop notes events, reaps children, answers requests, lets every part take a step, sends.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

#include "agent/fail.h"
#include "agent/port.h"

/* The agent's own SCHED_FIFO priority; everything else stays below it. */
enum { AGENT_PRIORITY = 99 };

struct program;
struct stream;
struct work_set;
struct helper;
struct removal;
struct askers;

struct agent {
	bool init; /* PID 1 of a machine, not a process under test */
	const char *cgroup_root; /* "/sys/fs/cgroup" */
	const char *random_path; /* "/dev/urandom" */
	int epoll_fd, signal_fd, null_fd;
	struct source signal_source;
	struct rlimit files; /* what children get back */
	struct port port;

	bool reap; /* SIGCHLD has come */
	bool childless; /* nothing to reap was left, the last time */
	bool again; /* something was left undone for lack of room or to be fair: another turn soon */
	u64 cpu_start_ns; /* its thread's CPU time so far: PID 1 begins with all that the kernel's boot took */
	u64 now; /* CLOCK_MONOTONIC at the start of the turn, ns */
	u64 deadline; /* when the next turn is due, whatever happens */

	/* program.c */
	struct program *programs;
	u32 program_count;
	size_t stdin_bytes; /* taken in, not yet taken by a program */
	struct stream *ready_first, **ready_last; /* streams with something to read, in turns */

	struct work_set *work; /* workers.c */
	struct helper *helpers; /* helper.c */
	struct removal *removals; /* cgroup.c */
	struct askers *captures, *kernel_ops; /* ask.c; NULL: nobody can ask for any */

	struct {
		u32 request_id; /* 0: not asked for */
		s32 code;
		u64 deadline;
		bool exit_sent;
	} shutdown;
};

struct request {
	u32 id;
	u32 op;
	const u8 *body;
	size_t length;
};

enum {
	REPLY_SMALL = 4096, /* most attributes in a reply */
	REPLY_MAX = WIRE_DATA_MAX + sizeof(struct wire_op_reply), /* what an operation may answer at once */
};

/* Ensures a turn no later than that. */
void agent_wake_at(struct agent *agent, u64 ns);

/* To the kernel's log, or stderr under test. For what nobody asked about, sparingly. */
void agent_log(const struct agent *agent, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- requests.c --- */

/* Answers what has come in. */
void requests_step(struct agent *agent);

/* There is room for a reply of attributes. What is owed later checks this and comes again; an operation
 * that answers at once need not, there was room before it was called. */
bool reply_has_room(const struct agent *agent);
/* A reply: attributes between begin and end. */
struct attr_writer reply_begin(struct agent *agent, u32 request_id);
void reply_end(struct agent *agent, const struct attr_writer *attrs);
void reply_empty(struct agent *agent, u32 request_id);
void reply_fail(struct agent *agent, u32 request_id, const struct fail *f);

/* A string attribute as a C string; ENAMETOOLONG when it does not fit. */
int take_string(const struct attr *a, char *out, size_t capacity, struct fail *f);
int fail_malformed(struct fail *f);

/* --- loop.c --- */

u64 agent_clock(clockid_t clock);

/* Makes the loop; the descriptors of the standard streams must be taken. Returns 0 or an errno. */
int agent_init(struct agent *agent);
/* Runs until the machine is to end, or the host is gone: then it returns. */
void agent_run(struct agent *agent);

#endif
