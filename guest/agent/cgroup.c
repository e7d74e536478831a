// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/control_value.h"
#include "base/cleanup.h"

#define REMOVE_LIMIT_NS (10 * 1000000000ull)
#define REMOVE_RETRY_NS (2 * 1000000ull)

struct removal {
	struct removal *next;
	u32 request_id;
	u64 deadline;
	char path[]; /* absolute */
};

int cgroup_check_name(const char *name, struct fail *f)
{
	for (const char *p = name; *p;) {
		size_t n = strcspn(p, "/");

		if (!n || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return fail_with(f, EINVAL, "'%s' is no path of a cgroup", name);
		p += n;
		if (*p == '/' && !*++p)
			return fail_with(f, EINVAL, "'%s' is no path of a cgroup", name);
	}
	return 0;
}

static int join(char *out, size_t capacity, const char *a, const char *b, struct fail *f)
{
	if ((size_t)snprintf(out, capacity, "%s/%s", a, b) >= capacity)
		return fail_with(f, ENAMETOOLONG, "'%.100s...' is too long", b);
	return 0;
}

int cgroup_enter(const char *root, const char *name, struct fail *f)
{
	char directory[PATH_MAX], path[PATH_MAX];
	int error = join(directory, sizeof(directory), root, name, f);

	if (error || (error = join(path, sizeof(path), directory, "cgroup.procs", f)))
		return error;

	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0", 1) != 1)
		return fail_errno(f, "cannot enter cgroup '%s'", name);
	return 0;
}

/* Reads a small file whole, as a string without the last new line; false and errno when it cannot. */
static bool read_text(const char *path, char *out, size_t capacity)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t n = 0;

	if (fd < 0)
		return false;
	while (n < capacity - 1) {
		ssize_t got = read(fd, out + n, capacity - 1 - n);

		if (got < 0)
			return false;
		if (!got)
			break;
		n += (size_t)got;
	}
	n -= n && out[n - 1] == '\n';
	out[n] = 0;
	return true;
}

void cgroup_enable_controllers(const char *directory)
{
	char path[PATH_MAX], text[512], word[64];
	struct fail f;

	if (join(path, sizeof(path), directory, "cgroup.controllers", &f) ||
	    !read_text(path, text, sizeof(text)) ||
	    join(path, sizeof(path), directory, "cgroup.subtree_control", &f))
		return;

	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	char *rest = text;

	/* One by one: a controller that refuses (real-time tasks, processes inside) keeps out no other. */
	for (char *name; (name = strtok_r(rest, " \n", &rest));) {
		int n = snprintf(word, sizeof(word), "+%s", name);

		if (fd >= 0 && write(fd, word, (size_t)n) < 0)
			continue;
	}
}

/* "cpuset.cpus=0-3" in that directory. */
static int write_control(const char *directory, char *control, struct fail *f)
{
	char path[PATH_MAX], got[CONTROL_MAX];
	char *value = strchr(control, '=');
	int error;

	if (!value || strcspn(control, "/") < (size_t)(value - control))
		return fail_with(f, EINVAL, "'%s' is no control such as cpu.weight=50", control);
	*value++ = 0;
	if ((error = join(path, sizeof(path), directory, control, f)))
		return error;

	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return fail_errno(f, "no control '%s' in the cgroup", control);
	/* A write of no bytes does not reach the kernel; a new line clears. */
	if (write(fd, *value ? value : "\n", *value ? strlen(value) : 1) < 0)
		return fail_errno(f, "cannot write '%s' to %s", value, control);
	if (!read_text(path, got, sizeof(got)))
		return 0; /* one that is only written, such as cgroup.kill */
	if (!control_value_matches(control, value, got))
		return fail_with(f, EINVAL, "wrote '%s' to %s, but it reads '%.100s'", value, control, got);
	return 0;
}

/* Makes the group and those above it, below the root; the path is cut at each '/' and mended. */
static int make_group(const char *root, char *path, bool *made, struct fail *f)
{
	size_t top = strlen(root);

	cgroup_enable_controllers(root);
	for (char *slash = path + top; slash; *slash = '/') {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = 0;
		*made = !mkdir(path, 0755);
		if (!*made && errno != EEXIST)
			return fail_errno(f, "cannot make cgroup '%s'", path + top + 1);
		if (!slash)
			break;
		cgroup_enable_controllers(path);
	}
	return 0;
}

int op_cgroup_create(struct agent *agent, const struct request *q, struct fail *f)
{
	char name[PATH_MAX] = "", path[PATH_MAX], control[CONTROL_MAX];
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct attr a;
	bool made = false;
	int error = 0;

	while (!error && attr_next(&r, &a))
		if (a.info->type == ATTR_CGROUP)
			error = take_string(&a, name, sizeof(name), f);
	if (error || (r.malformed && (error = fail_malformed(f))))
		return error;
	if (!*name)
		return fail_with(f, EINVAL, "CGROUP is missing");
	if ((error = cgroup_check_name(name, f)) ||
	    (error = join(path, sizeof(path), agent->cgroup_root, name, f)) ||
	    (error = make_group(agent->cgroup_root, path, &made, f)))
		return error;

	r = attr_reader_init(q->body, q->length);
	while (!error && attr_next(&r, &a))
		if (a.info->type == ATTR_CONTROL &&
		    !(error = take_string(&a, control, sizeof(control), f)))
			error = write_control(path, control, f);
	if (error) {
		if (made)
			rmdir(path);
		return error;
	}
	reply_empty(agent, q->id);
	return 0;
}

int op_cgroup_remove(struct agent *agent, const struct request *q, struct fail *f)
{
	char name[PATH_MAX] = "", path[PATH_MAX];
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct removal *removal;
	struct stat st;
	struct attr a;
	int error = 0;

	while (!error && attr_next(&r, &a))
		if (a.info->type == ATTR_CGROUP)
			error = take_string(&a, name, sizeof(name), f);
	if (error || (r.malformed && (error = fail_malformed(f))))
		return error;
	if (!*name)
		return fail_with(f, EINVAL, "CGROUP is missing");
	if ((error = cgroup_check_name(name, f)) ||
	    (error = join(path, sizeof(path), agent->cgroup_root, name, f)))
		return error;
	if (stat(path, &st))
		return fail_errno(f, "cannot remove cgroup '%s'", name);

	removal = malloc(sizeof(*removal) + strlen(path) + 1);
	if (!removal)
		return fail_with(f, ENOMEM, "no memory");
	removal->next = agent->removals;
	removal->request_id = q->id;
	removal->deadline = agent->now + REMOVE_LIMIT_NS;
	strcpy(removal->path, path);
	agent->removals = removal;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *level)
{
	return kind == FTW_DP && rmdir(path) ? errno : 0;
}

/* 0 when it is gone. */
static int try_remove(const char *path)
{
	char kill_path[PATH_MAX];
	int error;

	if ((size_t)snprintf(kill_path, sizeof(kill_path), "%s/cgroup.kill", path) >= sizeof(kill_path))
		return ENAMETOOLONG;

	CLEANUP_CLOSE int fd = open(kill_path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "1", 1) < 0 && errno != ENOENT)
		return errno;
	error = nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return error < 0 ? errno : error;
}

/* True when it is over and answered. */
static bool step_removal(struct agent *agent, const struct removal *removal)
{
	struct fail f;
	int error;

	if (!reply_has_room(agent)) {
		agent->again = true;
		return false;
	}
	error = try_remove(removal->path);
	if (error == EBUSY && agent->now < removal->deadline) {
		agent_wake_at(agent, agent->now + REMOVE_RETRY_NS);
		return false;
	}
	if (!error || error == ENOENT) {
		reply_empty(agent, removal->request_id);
		return true;
	}
	errno = error;
	fail_errno(&f, "cannot remove cgroup '%s'", removal->path + strlen(agent->cgroup_root) + 1);
	reply_fail(agent, removal->request_id, &f);
	return true;
}

void cgroup_step(struct agent *agent)
{
	for (struct removal **at = &agent->removals, *r; (r = *at);) {
		if (step_removal(agent, r)) {
			*at = r->next;
			free(r);
		} else {
			at = &r->next;
		}
	}
}
