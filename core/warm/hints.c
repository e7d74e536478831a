// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "warm/internal.h"

size_t hint_read(int directory, const char *name, void *out, size_t size)
{
	CLEANUP_CLOSE int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;

	ssize_t n = read(fd, out, size);

	return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

void hint_write(int directory, const char *name, const void *data, size_t size)
{
	unlinkat(directory, name, 0);

	CLEANUP_CLOSE int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd >= 0 && write(fd, data, size) != (ssize_t)size)
		unlinkat(directory, name, 0);
}

/* --- checked --- */

// What has been written but not synced is lost when the host crashes, so the boot counts too.
bool checked_line(const struct image *image, int memory_fd, char ret[CHECKED_MAX])
{
	char boot[64] = "", state[HASH128_HEX];
	struct stat st;

	if (!hint_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", boot, sizeof(boot)) || fstat(memory_fd, &st) < 0)
		return false;
	boot[strcspn(boot, "\n")] = '\0';
	hash128_hex(&image->parsed.hash, state);

	int n = snprintf(ret, CHECKED_MAX, "%s %llu %llu %lld %lld.%09ld %lld.%09ld %s\n", boot,
			 (unsigned long long)st.st_dev, (unsigned long long)st.st_ino, (long long)st.st_size,
			 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec,
			 st.st_ctim.tv_nsec, state);

	return n > 0 && n < CHECKED_MAX;
}

bool checked_is(int directory, const char *line)
{
	char found[CHECKED_MAX];
	size_t n = hint_read(directory, IMAGE_CHECKED, found, sizeof(found));

	return n && n == strlen(line) && memcmp(found, line, n) == 0;
}

// Nobody takes half a line for a whole one, so it need not appear at once.
void checked_write(int directory, const char *line)
{
	hint_write(directory, IMAGE_CHECKED, line, strlen(line));
}
