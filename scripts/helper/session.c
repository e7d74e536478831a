// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One command in the helper machine: its view of the host's files, its identity, its descriptors.
 *
 * Each session has a mount namespace of its own, with a fresh overlay over the host's root. An
 * overlay that lived longer would go on showing directories as they were, and /tmp would collect
 * what earlier commands left.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NEW_ROOT "/session"
#define SCRATCH "/scratch"

struct command {
	const struct request *request;
	const uint32_t *groups;
	char *cwd, *project, *cache;
	char **argv, **env;
};

static char *next_string(char **at, char *end)
{
	char *string = *at;
	char *nul = memchr(string, 0, end - string);

	if (!nul)
		return NULL;
	*at = nul + 1;
	return string;
}

static char **next_strings(char **at, char *end, uint32_t count)
{
	if (count > REQUEST_MAX)
		return NULL;
	char **list = calloc(count + 1, sizeof(*list));

	for (uint32_t i = 0; list && i < count; i++) {
		list[i] = next_string(at, end);
		if (!list[i])
			return NULL;
	}
	return list;
}

/* Runs in the session's own process: what it allocates lives until the exec. */
static int command_decode(struct command *c, char *data, size_t size)
{
	const struct request *r = (const void *)data;
	char *end = data + size;

	if (size < sizeof(*r) || r->groups > (size - sizeof(*r)) / sizeof(uint32_t))
		return -1;
	c->request = r;
	c->groups = (const void *)(r + 1);

	char *at = data + sizeof(*r) + r->groups * sizeof(uint32_t);

	c->cwd = next_string(&at, end);
	c->project = c->cwd ? next_string(&at, end) : NULL;
	c->cache = c->project ? next_string(&at, end) : NULL;
	if (!c->cache)
		return -1;
	c->argv = next_strings(&at, end, r->argc);
	c->env = next_strings(&at, end, r->envc);
	return c->argv && c->env && r->argc ? 0 : -1;
}

_Noreturn static void fail(const char *what)
{
	int error = errno;

	dprintf(2, "with-kvm: %s: %s\n", what, strerror(error));
	_exit(error == ENOENT || error == ENOTDIR ? 127 : 126);
}

static void make_directories(char *path)
{
	for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		mkdir(path, 0755);
		*slash = '/';
	}
	mkdir(path, 0755);
}

static void bind_at(const char *source, const char *target, unsigned long flags)
{
	char path[8192];

	snprintf(path, sizeof(path), NEW_ROOT "%s", target);
	make_directories(path);
	if (mount(source, path, NULL, MS_BIND | flags, NULL))
		fail(target);
}

/* Mounts a share of this session's port. */
static void mount_share(const char *name, int slot, const char *target)
{
	const struct timespec tick = { .tv_nsec = 20000000 };
	char tag[32], path[8192];

	snprintf(tag, sizeof(tag), "%s%d", name, slot);
	snprintf(path, sizeof(path), NEW_ROOT "%s", target);
	make_directories(path);
	// The port's last command may still be unmounting it: its device is then not found.
	for (int tries = 0; mount(tag, path, "9p", 0, SHARE_OPTIONS ",cache=readahead"); tries++) {
		if (tries == 250)
			fail(target);
		nanosleep(&tick, NULL);
	}
}

static void enter_root(const struct command *c, int slot)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		fail("mount namespace");
	mkdir(NEW_ROOT, 0755);
	mkdir(SCRATCH, 0755);
	if (mount("tmpfs", SCRATCH, "tmpfs", 0, "mode=0755"))
		fail("scratch");
	mkdir(SCRATCH "/upper", 0755);
	mkdir(SCRATCH "/work", 0755);
	if (mount("overlay", NEW_ROOT, "overlay", 0,
		  "lowerdir=" SHARE_ROOT ",upperdir=" SCRATCH "/upper,workdir=" SCRATCH "/work"))
		fail("overlay");
	bind_at(SHARE_USR, "/usr", 0);
	bind_at("/proc", "/proc", 0);
	bind_at("/sys", "/sys", MS_REC);
	bind_at("/dev", "/dev", MS_REC);
	bind_at(WARM, WARM, 0);
	if (mount("tmpfs", NEW_ROOT "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"))
		fail("/dev/shm");
	mount_share("project", slot, c->project);
	mount_share("cache", slot, c->cache);

	// Moved rather than only changed into: in a chroot no user namespace can be made.
	if (chdir(NEW_ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot("."))
		fail("root");
}

static void become_user(const struct command *c)
{
	const struct request *r = c->request;
	struct rlimit files = { r->open_files, 1 << 20 };

	if (files.rlim_cur > files.rlim_max)
		files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	umask(r->umask);
	if (chown(WARM, r->uid, r->gid))
		fail(WARM);
	if (setgroups(r->groups, c->groups) || setgid(r->gid) || setuid(r->uid))
		fail("user");
}

static void default_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void cgroup_path(char *path, size_t size, int slot, const char *file)
{
	snprintf(path, size, "/sys/fs/cgroup/with-kvm-%d%s", slot, file);
}

static void cgroup_write(int slot, const char *file, const char *text)
{
	char path[64];

	cgroup_path(path, sizeof(path), slot, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		dprintf(2, "helper: %s: %s\n", path, strerror(errno));
	close(fd);
}

static int cgroup_populated(int slot)
{
	char path[64], text[128];

	cgroup_path(path, sizeof(path), slot, "/cgroup.events");
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n > 0 ? n : 0] = 0;
	return strstr(text, "populated 1") != NULL;
}

_Noreturn static void run_command(int slot, char *data, size_t size)
{
	struct command c;

	if (command_decode(&c, data, size)) {
		errno = EBADMSG;
		fail("request");
	}
	cgroup_write(slot, "/cgroup.procs", "0");
	default_signals();
	enter_root(&c, slot);
	become_user(&c);
	if (chdir(c.cwd))
		fail(c.cwd);
	clearenv();
	for (char **env = c.env; *env; env++)
		putenv(*env);
	// The caller's own is another's: nothing written there would outlast the command.
	setenv("KTSTR_WARM_DIR", WARM, 1);
	execvp(c.argv[0], c.argv);
	fail(c.argv[0]);
}

struct ends {
	int ours[3], theirs[3];
};

static int open_terminal(struct ends *e, const struct request *r)
{
	struct winsize size = { .ws_row = r->rows, .ws_col = r->columns };
	int master, slave;

	if (openpty(&master, &slave, NULL, NULL, &size))
		return -1;
	e->ours[0] = master;
	e->ours[1] = dup(master);
	e->theirs[0] = slave;
	e->theirs[1] = dup(slave);
	// The command's user owns its terminal, as after a login.
	if (fchown(slave, r->uid, -1))
		return -1;
	return 0;
}

static int open_pipe(struct ends *e, int which)
{
	int pair[2];

	if (pipe(pair))
		return -1;
	e->ours[which] = pair[which == 0];
	e->theirs[which] = pair[which != 0];
	return 0;
}

static int open_ends(struct ends *e, const struct request *r)
{
	for (int i = 0; i < 3; i++)
		e->ours[i] = e->theirs[i] = -1;
	if (r->flags & REQUEST_PTY) {
		if (open_terminal(e, r))
			return -1;
	} else {
		if (open_pipe(e, 1))
			return -1;
		if (r->flags & REQUEST_STDIN) {
			if (open_pipe(e, 0))
				return -1;
		} else {
			e->theirs[0] = open("/dev/null", O_RDONLY);
		}
	}
	if (r->flags & (REQUEST_PTY_STDERR | REQUEST_MERGED))
		e->theirs[2] = dup(e->theirs[1]);
	else if (open_pipe(e, 2))
		return -1;
	for (int i = 0; i < 3; i++)
		if (e->ours[i] >= 0)
			fcntl(e->ours[i], F_SETFL, O_NONBLOCK);
	return 0;
}

static void close_all(const int fds[3])
{
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "3", 1) < 0)
		dprintf(2, "helper: drop_caches: %s\n", strerror(errno));
	close(fd);
}

int session_start(struct session *s, const char *data, size_t size)
{
	const struct request *r = (const void *)data;
	struct ends e;
	char path[64];

	if (size < sizeof(*r)) {
		errno = EBADMSG;
		return -1;
	}
	if (r->flags & REQUEST_REFRESH)
		drop_caches();
	cgroup_path(path, sizeof(path), s->slot, "");
	mkdir(path, 0755);
	if (open_ends(&e, r)) {
		close_all(e.ours);
		close_all(e.theirs);
		return -1;
	}
	pid_t pid = fork();

	if (!pid) {
		setsid();
		if (r->flags & REQUEST_PTY)
			ioctl(e.theirs[0], TIOCSCTTY, 0);
		// Above 2 first: an end may itself be 0, 1 or 2.
		for (int i = 0; i < 3; i++)
			e.theirs[i] = fcntl(e.theirs[i], F_DUPFD, 100);
		for (int i = 0; i < 3; i++)
			dup2(e.theirs[i], i);
		close_range(3, ~0U, 0);
		run_command(s->slot, (char *)data, size);
	}
	close_all(e.theirs);
	if (pid < 0) {
		close_all(e.ours);
		return -1;
	}
	s->pid = pid;
	s->in = e.ours[0];
	s->out = e.ours[1];
	s->err = e.ours[2];
	s->exited = 0;
	return 0;
}

void session_end(struct session *s)
{
	const struct timespec tick = { .tv_nsec = 5000000 };

	if (!s->pid)
		return;
	// The command may not have entered its group yet.
	kill(-s->pid, SIGKILL);
	cgroup_write(s->slot, "/cgroup.kill", "1");
	if (!s->exited)
		waitpid(s->pid, NULL, 0);
	// Whoever learns of the end must not find a straggler still writing. One stuck in the
	// kernel for seconds is left to PID 1.
	for (int i = 0; i < 1000 && cgroup_populated(s->slot); i++)
		nanosleep(&tick, NULL);
	close_all((int[3]){ s->in, s->out, s->err });
	s->in = s->out = s->err = -1;
	s->pid = 0;
	s->exited = 0;
}

void session_signal(const struct session *s, int number)
{
	if (s->pid && !s->exited)
		kill(-s->pid, number);
}

void session_resize(const struct session *s, unsigned int rows, unsigned int columns)
{
	struct winsize size = { .ws_row = rows, .ws_col = columns };

	if (s->pid && s->in >= 0)
		ioctl(s->in, TIOCSWINSZ, &size);
}
