// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/child.h"

static int take(struct launch *l, const struct attr *a, char *text, struct fail *f)
{
	switch (a->info->type) {
	case ATTR_ARG:
		if (l->argc == LAUNCH_STRINGS_MAX)
			return fail_with(f, E2BIG, "more than %d arguments", LAUNCH_STRINGS_MAX);
		l->argv[l->argc++] = text;
		return 0;
	case ATTR_ENV:
		if (l->env_count == LAUNCH_STRINGS_MAX)
			return fail_with(f, E2BIG, "more than %d variables", LAUNCH_STRINGS_MAX);
		if (!strchr(text, '=') || *text == '=')
			return fail_with(f, EINVAL, "'%s' is no NAME=value", text);
		l->env[l->env_count++] = text;
		return 0;
	case ATTR_CWD:
		l->cwd = text;
		return 0;
	case ATTR_HAS_STDIN:
		l->has_stdin = true;
		return 0;
	default:
		placement_take(&l->placement, a, f);
		return f->error;
	}
}

struct launch *launch_parse(const struct request *q, struct fail *f)
{
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct launch *l = calloc(1, sizeof(*l));
	struct attr a;
	char *text;

	/* An attribute's header makes room for its string's NUL. */
	if (!l || !(l->strings = malloc(q->length + 1))) {
		fail_with(f, ENOMEM, "no memory");
		return l;
	}
	text = l->strings;
	while (!f->error && attr_next(&r, &a)) {
		attr_string(&a, text, a.length + 1);
		take(l, &a, text, f);
		text += a.length + 1;
	}
	if (!f->error && r.malformed)
		fail_malformed(f);
	if (!f->error && (!l->argc || !*l->argv[0]))
		fail_with(f, EINVAL, "ARG is missing: no program to run");
	if (!f->error)
		placement_check(&l->placement, f);
	return l;
}

void launch_destroy(struct launch *l)
{
	if (l)
		free(l->strings);
	free(l);
}

/* What the child is given: its ends of the pipes. */
struct child_ends {
	int in, out, err, status;
};

_Noreturn static void become(const struct agent *agent, const struct launch *l, const struct child_ends *ends)
{
	struct fail f = { 0 };

	child_reset(agent);
	if (placement_apply(&l->placement, agent->cgroup_root, &f))
		goto failed;
	if (l->cwd && chdir(l->cwd)) {
		fail_errno(&f, "cannot change to directory '%s'", l->cwd);
		goto failed;
	}
	if (dup2(ends->in, 0) < 0 || dup2(ends->out, 1) < 0 || dup2(ends->err, 2) < 0) {
		fail_errno(&f, "cannot set up the standard streams");
		goto failed;
	}
	for (u32 i = 0; i < l->env_count; i++)
		putenv(l->env[i]);
	execvp(l->argv[0], l->argv);
	fail_errno(&f, "cannot run '%s'", l->argv[0]);
failed:
	_exit(write(ends->status, &f, sizeof(f)) == sizeof(f) ? 127 : 126);
}

/* One pipe; the agent's end, the one with that index, does not block. */
static int make_pipe(int ends[2], int own)
{
	if (pipe2(ends, O_CLOEXEC))
		return -1;
	return fcntl(ends[own], F_SETFL, O_NONBLOCK);
}

enum { IN,
       OUT,
       ERR,
       STATUS,
       PIPES };

static void close_pipes(int pipes[PIPES][2])
{
	for (int i = 0; i < PIPES; i++)
		for (int end = 0; end < 2; end++)
			if (pipes[i][end] >= 0)
				close(pipes[i][end]);
}

int launch_run(const struct agent *agent, const struct launch *l, struct launched *ret, struct fail *f)
{
	int pipes[PIPES][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 }, { -1, -1 } };
	struct child_ends ends;

	if ((l->has_stdin && make_pipe(pipes[IN], 1)) || make_pipe(pipes[OUT], 0) ||
	    make_pipe(pipes[ERR], 0) || make_pipe(pipes[STATUS], 0)) {
		fail_errno(f, "cannot make a pipe");
		close_pipes(pipes);
		return f->error;
	}
	ends = (struct child_ends){
		.in = l->has_stdin ? pipes[IN][0] : agent->null_fd,
		.out = pipes[OUT][1],
		.err = pipes[ERR][1],
		.status = pipes[STATUS][1],
	};
	*ret = (struct launched){
		.pid = fork(),
		.status_fd = pipes[STATUS][0],
		.stdin_fd = pipes[IN][1],
		.stdout_fd = pipes[OUT][0],
		.stderr_fd = pipes[ERR][0],
	};
	if (!ret->pid)
		become(agent, l, &ends);
	if (ret->pid < 0) {
		fail_errno(f, "cannot fork");
		close_pipes(pipes);
		return f->error;
	}
	if (l->has_stdin)
		close(ends.in);
	close(ends.out);
	close(ends.err);
	close(ends.status);
	return 0;
}
