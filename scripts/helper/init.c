// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * PID 1 of the helper machine: mounts, loads modules, starts one agent per port, reaps.
 *
 * It is the whole user space of the initramfs. What a command sees is put together for each
 * session anew (session.c), from the 9p shares that are mounted here.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KICK_HZ = 100 };

static const struct mount_entry {
	const char *source, *target, *type, *options;
	unsigned long flags;
} early_mounts[] = {
	{ "proc", "/proc", "proc", "", MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "sysfs", "/sys", "sysfs", "", MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "devtmpfs", "/dev", "devtmpfs", "mode=0755", MS_NOSUID },
	{ "devpts", "/dev/pts", "devpts", "mode=0620,gid=5,ptmxmode=0666", MS_NOSUID | MS_NOEXEC },
	{ "cgroup2", "/sys/fs/cgroup", "cgroup2", "", MS_NOSUID | MS_NODEV | MS_NOEXEC },
	// Takes what is in it, and ktstr keeps it half empty: a guest has to fit in beside it.
	{ "warm", WARM, "tmpfs", "mode=0700,size=50%", MS_NOSUID | MS_NODEV },
},
  shares[] = {
	  { "root", SHARE_ROOT, "9p", SHARE_OPTIONS ",cache=readahead", MS_RDONLY },
	  // Cached for good: the system's programs are read again and again, and change seldom.
	  { "usr", SHARE_USR, "9p", SHARE_OPTIONS ",cache=loose", MS_RDONLY },
  };

_Noreturn static void give_up(const char *what)
{
	fprintf(stderr, "helper: %s: %s\n", what, strerror(errno));
	reboot(RB_POWER_OFF);
	_exit(1);
}

static void mount_all(const struct mount_entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct mount_entry *m = &list[i];

		mkdir(m->target, 0755);
		if (mount(m->source, m->target, m->type, m->flags, m->options))
			give_up(m->target);
	}
}

/* /modules/list names them in the order of their dependencies. */
static void load_modules(void)
{
	FILE *list = fopen("/modules/list", "re");
	char name[128], path[160];

	if (!list)
		give_up("/modules/list");
	while (fscanf(list, "%127s", name) == 1) {
		snprintf(path, sizeof(path), "/modules/%s", name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		// A missing module shows itself in what does not work, and is named in the log.
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			fprintf(stderr, "helper: module %s: %s\n", name, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	fclose(list);
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		fprintf(stderr, "helper: lo: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void device_links(void)
{
	symlink("/proc/self/fd", "/dev/fd");
	symlink("fd/0", "/dev/stdin");
	symlink("fd/1", "/dev/stdout");
	symlink("fd/2", "/dev/stderr");
	mkdir("/dev/shm", 01777);
	chmod("/dev/kvm", 0666);
	// ptmx of this devpts instance, whatever the group of the caller
	chmod("/dev/ptmx", 0666);
}

/*
 * Has the PIT interrupt KICK_HZ times a second, for nothing but the interrupt.
 *
 * QEMU (10.0) changes the processor's set of pending interrupts from two threads, and its VMRUN
 * does so without the lock: now and then the arrival of an interrupt is forgotten. The APIC still
 * has it pending, but nothing looks there before the next one arrives; and when it was the timer's,
 * there is no next one, and a nested guest that spins has the machine for itself. Seen under load:
 * after eight minutes, for 1,360 seconds, until a command came in by its port.
 *
 * So it has to be a source that waits for nothing the processor does. Linux arms the HPET anew at
 * each interrupt and acknowledges it after that: held up in between for a period, it has
 * acknowledged the next one unseen, and there is none behind it. The PIT in mode 2 gives an edge
 * each period, come what may. The kernel has it from its start and leaves it for the APIC's timer;
 * its interrupt then finds nothing to do.
 */
static void keep_interrupting(void)
{
	enum {
		CHANNEL_0 = 0x40,
		CONTROL = 0x43,
		LOW_HIGH_MODE_2 = 0x34,
		DIVISOR = 1193182 / KICK_HZ,
	};

	if (ioperm(CHANNEL_0, CONTROL - CHANNEL_0 + 1, 1)) {
		fprintf(stderr, "helper: the PIT's ports: %s\n", strerror(errno));
		return;
	}
	outb(LOW_HIGH_MODE_2, CONTROL);
	outb(DIVISOR & 0xff, CHANNEL_0);
	outb(DIVISOR >> 8, CHANNEL_0);
	// What is started from here gets no ports.
	ioperm(CHANNEL_0, CONTROL - CHANNEL_0 + 1, 0);
}

int main(void)
{
	struct rlimit files = { 1 << 20, 1 << 20 };
	int ports = 0;

	setlinebuf(stderr);
	mkdir("/run", 0755);
	mount_all(early_mounts, sizeof(early_mounts) / sizeof(*early_mounts));
	load_modules();
	mkdir(SHARES, 0755);
	mount_all(shares, sizeof(shares) / sizeof(*shares));
	loopback_up();
	device_links();
	keep_interrupting();
	setrlimit(RLIMIT_NOFILE, &files);

	for (int i = 1; i <= PORT_COUNT; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/dev/vport0p%d", i);
		if (access(path, F_OK))
			continue;
		pid_t pid = fork();

		if (pid < 0)
			give_up("fork");
		if (!pid)
			agent_run(path, i);
		ports++;
	}
	if (!ports)
		give_up("no port to serve");
	fprintf(stderr, "helper: ready, %d ports\n", ports);

	for (;;) {
		if (wait(NULL) < 0 && errno == ECHILD)
			give_up("all agents are gone");
	}
}
