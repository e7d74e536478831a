// SPDX-License-Identifier: GPL-2.0-or-later
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/setup.h"
#include "base/cleanup.h"

/* linux/netlink.h, which musl does not bring. */
enum { NETLINK_KOBJECT_UEVENT = 15,
       UEVENTS_OF_KERNEL = 1 };

struct netlink_address {
	unsigned short family, pad;
	u32 pid, groups;
};

/* Once so long has passed, a port without the right name will do, if it is the first one's number 1. */
enum { UNNAMED_AFTER_MS = 2000,
       GIVE_UP_AFTER_MS = 10000 };

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

static bool is_named(const char *port)
{
	CLEANUP_FCLOSE FILE *file = NULL;
	char path[320], name[64] = "";

	snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", port);
	file = fopen(path, "re");
	if (!file || !fgets(name, sizeof(name), file))
		return false;
	name[strcspn(name, "\n")] = 0;
	return !strcmp(name, WIRE_PORT_NAME);
}

static int open_port(const char *port)
{
	char path[320];

	snprintf(path, sizeof(path), "/dev/%s", port);
	return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

static int look(bool unnamed_will_do)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	int fd = -1;

	if (!dir)
		return -1;
	for (struct dirent *d; fd < 0 && (d = readdir(dir));)
		if (d->d_name[0] != '.' &&
		    (is_named(d->d_name) || (unnamed_will_do && !strcmp(d->d_name, "vport0p1"))))
			fd = open_port(d->d_name);
	closedir(dir);
	return fd;
}

/* The kernel's announcements of new devices and of changed ones (a port gets its name after it is there). */
static int open_uevents(void)
{
	struct netlink_address address = { .family = AF_NETLINK, .groups = UEVENTS_OF_KERNEL };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

int setup_open_port(void)
{
	CLEANUP_CLOSE int events = open_uevents();
	u64 start = now_ms();

	for (;;) {
		struct pollfd p = { .fd = events, .events = POLLIN };
		u64 waited = now_ms() - start;
		int fd = look(waited >= UNNAMED_AFTER_MS);
		char text[4096];

		if (fd >= 0 || waited >= GIVE_UP_AFTER_MS)
			return fd;
		/* The bound is for a kernel that announces nothing. */
		poll(&p, 1, events < 0 ? 20 : 500);
		while (events >= 0 && read(events, text, sizeof(text)) > 0)
			;
	}
}
