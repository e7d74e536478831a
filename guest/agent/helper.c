// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/module.h"

struct helper {
	struct helper *next;
	struct source source;
	u32 request_id;
	int fd; /* the child's struct fail comes here; its end without one is the child's death */
	bool ready;
};

static void helper_ready(struct agent *agent, struct source *source, u32 events)
{
	container_of(source, struct helper, source)->ready = true;
}

/* In the child. The request lies in the copied memory of the agent. */
_Noreturn static void load_modules(const struct request *q, int fd)
{
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct fail f = { 0 };
	char path[PATH_MAX];
	struct attr a;
	int error = 0;

	while (!error && attr_next(&r, &a))
		if (a.info->type == ATTR_PATH && !(error = take_string(&a, path, sizeof(path), &f)))
			error = module_load(path, &f);
	_exit(write(fd, &f, sizeof(f)) != sizeof(f));
}

int op_load_modules(struct agent *agent, const struct request *q, struct fail *f)
{
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct helper *helper;
	struct attr a;
	int ends[2];
	pid_t pid;

	while (attr_next(&r, &a))
		;
	if (r.malformed)
		return fail_malformed(f);
	helper = calloc(1, sizeof(*helper));
	if (!helper)
		return fail_with(f, ENOMEM, "no memory");
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) {
		free(helper);
		return fail_errno(f, "cannot make a pipe");
	}
	pid = fork();
	if (!pid) {
		child_reset(agent);
		child_keep_fds(&ends[1], 1);
		load_modules(q, ends[1]);
	}
	close(ends[1]);
	helper->source.ready = helper_ready;
	helper->fd = ends[0];
	helper->request_id = q->id;
	if (pid < 0 || (errno = source_add(agent, &helper->source, helper->fd, EPOLLIN))) {
		fail_errno(f, "cannot start a helper");
		source_close(agent, &helper->fd);
		free(helper);
		return f->error;
	}
	helper->next = agent->helpers;
	agent->helpers = helper;
	return 0;
}

/* True when it is over and answered. */
static bool step_helper(struct agent *agent, struct helper *helper)
{
	struct fail f;
	ssize_t n;

	if (!helper->ready)
		return false;
	if (!reply_has_room(agent)) {
		agent->again = true;
		return false;
	}
	n = read(helper->fd, &f, sizeof(f));
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		helper->ready = errno == EINTR;
		agent->again |= helper->ready;
		return false;
	}
	if (n != sizeof(f))
		fail_with(&f, ECHILD, "the helper process died");
	if (f.error)
		reply_fail(agent, helper->request_id, &f);
	else
		reply_empty(agent, helper->request_id);
	source_close(agent, &helper->fd);
	return true;
}

void helpers_step(struct agent *agent)
{
	for (struct helper **at = &agent->helpers, *h; (h = *at);) {
		if (step_helper(agent, h)) {
			*at = h->next;
			free(h);
		} else {
			at = &h->next;
		}
	}
}
