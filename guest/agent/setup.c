// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "base/cleanup.h"

#define SEARCH_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct mount_point {
	const char *type, *path;
	unsigned long flags;
	const char *options;
};

static const struct mount_point first_mounts[] = {
	{ "devtmpfs", "/dev", MS_NOSUID, "mode=0755" },
	{ "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
};

static const struct mount_point more_mounts[] = {
	{ "tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777" },
	{ "tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755" },
	{ "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777" },
	{ "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666" },
	{ "cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "debugfs", "/sys/kernel/debug", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "tracefs", "/sys/kernel/tracing", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "bpf", "/sys/fs/bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700" },
};

/* EBUSY: it is mounted there already. */
static int mount_all(const struct mount_point *points, size_t count)
{
	int error = 0;

	for (size_t i = 0; i < count; i++) {
		const struct mount_point *p = &points[i];

		mkdir(p->path, 0755);
		if (mount(p->type, p->path, p->type, p->flags, p->options) && errno != EBUSY)
			error = errno;
	}
	return error;
}

int setup_first(void)
{
	mount_all(first_mounts, ARRAY_SIZE(first_mounts));
	/* A kernel without a console starts its init without open files. */
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			break;
	return open("/dev/ttyS1", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
}

static void write_text(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	/* Absent is fine: not every kernel has every knob. */
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		return;
}

static void make_file(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		return;
}

static bool command_line_has(const char *word)
{
	CLEANUP_FCLOSE FILE *file = fopen("/proc/cmdline", "re");
	char text[4096], *rest = text;
	size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;

	text[n] = 0;
	for (char *w; (w = strtok_r(rest, " \n", &rest));)
		if (!strcmp(w, word))
			return true;
	return false;
}

static void raise_loopback(void)
{
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo" };

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request))
		return;
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	ioctl(fd, SIOCSIFFLAGS, &request);
}

static void make_files(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i][0], links[i][1]) && errno != EEXIST)
			break;
	mkdir("/etc", 0755);
	mkdir("/root", 0700);
	make_file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
	make_file("/etc/group", "root:x:0:\n");
}

/* Above every work type: a scheduler that stalls must not stall the agent. Children start as normal tasks. */
static void raise_priority(const struct agent *agent)
{
	struct sched_param param = { .sched_priority = AGENT_PRIORITY };

	if (syscall(SYS_sched_setscheduler, 0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param))
		agent_log(agent, "no real-time priority: %s", strerror(errno));
}

void setup_rest(struct agent *agent)
{
	raise_priority(agent);
	umask(022);
	mount_all(more_mounts, ARRAY_SIZE(more_mounts));
	make_files();
	sethostname("ktstr", 5);
	raise_loopback();
	cgroup_enable_controllers(agent->cgroup_root);
	if (!command_line_has("ktstr.sched_schedstats=0"))
		write_text("/proc/sys/kernel/sched_schedstats", "1");
	clearenv();
	setenv("PATH", SEARCH_PATH, 1);
	setenv("HOME", "/root", 1);
	setenv("TERM", "linux", 1);
	chdir("/");
}

/* Linux halts for good when it is told to power off and cannot: ACPI is what it would do it with. */
void setup_power_off(void)
{
	bool can = !access("/sys/firmware/acpi/tables/FACP", F_OK);

	reboot(can ? RB_POWER_OFF : RB_AUTOBOOT);
	reboot(RB_AUTOBOOT);
	_exit(0);
}
