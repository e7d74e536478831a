// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/program.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/launch.h"
#include "agent/stream.h"

#define GRACE_NS 1000000000ull

enum { STDIN_BYTES_MAX = 4 << 20 }; /* of all programs, not yet taken */

struct program {
	struct program *next;
	u32 id; /* of the request that started it */
	u32 op; /* OP_SPAWN or OP_EXEC */
	u32 wait_id; /* the request to answer at its end; 0: none yet */
	pid_t pid;
	bool starting; /* not known yet whether exec succeeded */
	bool failed; /* it did not, and that was answered */
	bool ended; /* reaped */
	int status; /* waitpid's */
	u64 grace_end; /* once it has ended */

	struct source status_source;
	int status_fd;
	bool status_ready;

	struct stream out, err;

	/* One request at a time. */
	struct source stdin_source;
	int stdin_fd;
	bool stdin_ready;
	u32 stdin_id; /* the request to answer when all is taken; 0: none */
	u8 *stdin_data;
	size_t stdin_size, stdin_done;
};

static struct program *find_program(const struct agent *agent, u32 id)
{
	for (struct program *p = agent->programs; p; p = p->next)
		if (p->id == id)
			return p;
	return NULL;
}

static void status_ready(struct agent *agent, struct source *source, u32 events)
{
	container_of(source, struct program, status_source)->status_ready = true;
}

static void stdin_ready(struct agent *agent, struct source *source, u32 events)
{
	container_of(source, struct program, stdin_source)->stdin_ready = true;
}

/* Watches its pipes. One that cannot be watched is as good as closed. */
static void adopt(struct agent *agent, struct program *p, const struct launched *l)
{
	int error;

	p->pid = l->pid;
	p->starting = true;
	p->status_source.ready = status_ready;
	p->stdin_source.ready = stdin_ready;
	p->status_fd = l->status_fd;
	p->stdin_fd = l->stdin_fd;
	p->stdin_ready = true;
	error = stream_init(agent, &p->out, l->stdout_fd, MSG_STDOUT, p->id);
	if (!error)
		error = stream_init(agent, &p->err, l->stderr_fd, MSG_STDERR, p->id);
	if (!error)
		error = source_add(agent, &p->status_source, p->status_fd, EPOLLIN);
	if (!error && p->stdin_fd >= 0)
		error = source_add(agent, &p->stdin_source, p->stdin_fd, EPOLLOUT);
	if (error)
		agent_log(agent, "cannot watch program %u: %s", p->id, strerror(error));
}

int op_start(struct agent *agent, const struct request *q, struct fail *f)
{
	struct launch *l = NULL;
	struct launched launched;
	struct program *p;

	if (find_program(agent, q->id))
		return fail_with(f, EEXIST, "there is a program %u already", q->id);
	if (agent->program_count >= PROGRAMS_MAX)
		return fail_with(f, EAGAIN, "there are %u programs already: wait for some of them",
				 agent->program_count);
	p = calloc(1, sizeof(*p));
	if (!p)
		return fail_with(f, ENOMEM, "no memory");
	l = launch_parse(q, f);
	if (!f->error)
		launch_run(agent, l, &launched, f);
	launch_destroy(l);
	if (f->error) {
		free(p);
		return f->error;
	}
	p->id = q->id;
	p->op = q->op;
	adopt(agent, p, &launched);
	p->next = agent->programs;
	agent->programs = p;
	agent->program_count++;
	return 0;
}

/* The PROGRAM and SIGNAL of a request. */
static int take_program(struct agent *agent, const struct request *q, struct program **ret, u32 *signal,
			struct fail *f)
{
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct attr a;
	u32 id = 0;

	while (attr_next(&r, &a)) {
		if (a.info->type == ATTR_PROGRAM)
			id = attr_u32(&a);
		else if (a.info->type == ATTR_SIGNAL && signal)
			*signal = attr_u32(&a);
	}
	if (r.malformed)
		return fail_malformed(f);
	*ret = find_program(agent, id);
	return *ret ? 0 : fail_with(f, ESRCH, "there is no program %u", id);
}

int op_wait(struct agent *agent, const struct request *q, struct fail *f)
{
	struct program *p;
	int error = take_program(agent, q, &p, NULL, f);

	if (error)
		return error;
	if (p->op == OP_EXEC || p->wait_id)
		return fail_with(f, EBUSY, "program %u is waited for already", p->id);
	p->wait_id = q->id;
	return 0;
}

int op_kill(struct agent *agent, const struct request *q, struct fail *f)
{
	struct program *p;
	u32 number = 0;
	int error = take_program(agent, q, &p, &number, f);

	if (error)
		return error;
	if (!number || number >= NSIG)
		return fail_with(f, EINVAL, "there is no signal %u", number);
	if (p->ended)
		return fail_with(f, ESRCH, "program %u has ended", p->id);
	/* Its group is there once the child has made its session. */
	if (kill(-p->pid, (int)number) && kill(p->pid, (int)number))
		return fail_errno(f, "cannot send signal %u to program %u", number, p->id);
	reply_empty(agent, q->id);
	return 0;
}

static void drop_stdin(struct agent *agent, struct program *p)
{
	agent->stdin_bytes -= p->stdin_size;
	free(p->stdin_data);
	p->stdin_data = NULL;
	p->stdin_size = p->stdin_done = 0;
	p->stdin_id = 0;
}

int op_stdin(struct agent *agent, const struct request *q, struct fail *f)
{
	struct wire_output head;
	struct program *p;
	size_t n;

	if (q->length < sizeof(head))
		return fail_with(f, EINVAL, "no program is named");
	memcpy(&head, q->body, sizeof(head));
	n = q->length - sizeof(head);
	p = find_program(agent, head.program);
	if (!p)
		return fail_with(f, ESRCH, "there is no program %u", head.program);
	if (p->stdin_id)
		return fail_with(f, EBUSY, "program %u has not taken in what came before", p->id);
	if (p->stdin_fd < 0)
		return fail_with(f, EPIPE, "program %u does not read its stdin, or no longer", p->id);
	if (!n) {
		source_close(agent, &p->stdin_fd);
		reply_empty(agent, q->id);
		return 0;
	}
	if (n > WIRE_DATA_MAX)
		return fail_with(f, EINVAL, "%zu bytes are more than %d", n, WIRE_DATA_MAX);
	if (agent->stdin_bytes + n > STDIN_BYTES_MAX)
		return fail_with(f, EAGAIN, "too much input is waiting for programs to read it");
	p->stdin_data = malloc(n);
	if (!p->stdin_data)
		return fail_with(f, ENOMEM, "no memory");
	memcpy(p->stdin_data, q->body + sizeof(head), n);
	p->stdin_size = n;
	p->stdin_id = q->id;
	agent->stdin_bytes += n;
	return 0;
}

/* Moves what is pending on; answers when all of it has been taken, or never will be. */
static void step_stdin(struct agent *agent, struct program *p, bool over)
{
	struct fail f;

	if (!p->stdin_id || (!p->stdin_ready && !over))
		return;
	if (!reply_has_room(agent)) {
		agent->again = true;
		return;
	}
	while (p->stdin_done < p->stdin_size && !over) {
		ssize_t n = write(p->stdin_fd, p->stdin_data + p->stdin_done, p->stdin_size - p->stdin_done);

		if (n > 0) {
			p->stdin_done += (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			p->stdin_ready = false;
			return;
		} else if (errno != EINTR) {
			over = true;
		}
	}
	if (over) {
		fail_with(&f, EPIPE, "program %u no longer reads its stdin", p->id);
		reply_fail(agent, p->stdin_id, &f);
		source_close(agent, &p->stdin_fd);
	} else {
		reply_empty(agent, p->stdin_id);
	}
	drop_stdin(agent, p);
}

static void reply_pid(struct agent *agent, const struct program *p)
{
	struct attr_writer w = reply_begin(agent, p->id);

	attr_put_u32(&w, ATTR_PID, (u32)p->pid);
	reply_end(agent, &w);
}

/* Did exec succeed? */
static void step_start(struct agent *agent, struct program *p)
{
	struct fail f;
	ssize_t n;

	if (!p->starting || !(p->status_ready || p->ended))
		return;
	if (!reply_has_room(agent)) {
		agent->again = true;
		return;
	}
	n = read(p->status_fd, &f, sizeof(f));
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		p->status_ready = errno == EINTR;
		agent->again |= p->status_ready;
		return;
	}
	source_close(agent, &p->status_fd);
	p->starting = false;
	if (n == sizeof(f)) {
		reply_fail(agent, p->id, &f);
		p->failed = true;
	} else if (p->op == OP_EXEC) {
		p->wait_id = p->id;
	} else {
		reply_pid(agent, p);
	}
}

static void reply_end_of(struct agent *agent, const struct program *p)
{
	struct attr_writer w;
	struct fail f;

	if (p->failed) {
		fail_with(&f, ESRCH, "program %u did not start", p->id);
		reply_fail(agent, p->wait_id, &f);
		return;
	}
	w = reply_begin(agent, p->wait_id);
	attr_put_u32(&w, ATTR_PID, (u32)p->pid);
	if (WIFSIGNALED(p->status))
		attr_put_u32(&w, ATTR_SIGNAL, (u32)WTERMSIG(p->status));
	else
		attr_put_u32(&w, ATTR_STATUS, (u32)WEXITSTATUS(p->status));
	attr_put_u64(&w, ATTR_STDOUT_BYTES, p->out.sent);
	attr_put_u64(&w, ATTR_STDERR_BYTES, p->err.sent);
	reply_end(agent, &w);
}

static bool output_is_over(const struct program *p)
{
	return stream_is_over(&p->out) && stream_is_over(&p->err);
}

/* After its end: lets the output run out, then answers who waits. True when it can be forgotten. */
static bool step_end(struct agent *agent, struct program *p)
{
	if (!p->ended || p->starting)
		return false;
	if (!output_is_over(p)) {
		/* Somebody else has the pipe: a second for what is on its way, then it is let go. */
		if (agent->now >= p->grace_end || p->failed) {
			stream_finish(agent, &p->out);
			stream_finish(agent, &p->err);
		} else {
			agent_wake_at(agent, p->grace_end);
		}
		return false;
	}
	step_stdin(agent, p, true);
	if (p->stdin_id || (!p->wait_id && !p->failed))
		return false;
	if (!reply_has_room(agent)) {
		agent->again = true;
		return false;
	}
	if (p->wait_id)
		reply_end_of(agent, p);
	return true;
}

static void destroy_program(struct agent *agent, struct program *p)
{
	drop_stdin(agent, p);
	source_close(agent, &p->stdin_fd);
	source_close(agent, &p->status_fd);
	free(p);
	agent->program_count--;
}

void programs_step(struct agent *agent)
{
	for (struct program **at = &agent->programs, *p; (p = *at);) {
		step_start(agent, p);
		step_stdin(agent, p, false);
		if (step_end(agent, p)) {
			*at = p->next;
			destroy_program(agent, p);
		} else {
			at = &p->next;
		}
	}
}

bool programs_reap(struct agent *agent, pid_t pid, int status)
{
	for (struct program *p = agent->programs; p; p = p->next) {
		if (p->pid == pid && !p->ended) {
			p->ended = true;
			p->status = status;
			p->grace_end = agent->now + GRACE_NS;
			return true;
		}
	}
	return false;
}

void programs_kill(struct agent *agent)
{
	for (struct program *p = agent->programs; p; p = p->next)
		if (!p->ended && kill(-p->pid, SIGKILL))
			kill(p->pid, SIGKILL);
}

bool programs_are_quiet(const struct agent *agent)
{
	for (const struct program *p = agent->programs; p; p = p->next)
		if (!p->ended || p->starting || p->wait_id || p->stdin_id || !output_is_over(p))
			return false;
	return true;
}
