// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/kernel_failure.h"

#include <string.h>

/* What the kernel says in each case; where there are two, both of them in one line. */
static const struct {
	enum kernel_failure failure;
	const char *text, *also;
} signs[] = {
	{ KERNEL_PANIC, "Kernel panic - not syncing", NULL },
	{ KERNEL_OOPS, "Oops: ", NULL },
	{ KERNEL_OOPS, "kernel BUG at ", NULL },
	{ KERNEL_SOFT_LOCKUP, "BUG: soft lockup - ", NULL },
	{ KERNEL_HUNG_TASK, "INFO: task ", " blocked for more than " },
};

static enum kernel_failure sign_of(const char *line)
{
	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
		if (strstr(line, signs[i].text) && (!signs[i].also || strstr(line, signs[i].also)))
			return signs[i].failure;
	return KERNEL_FINE;
}

/* What does not fit is left out: the signs are at the beginnings of lines. */
static void put_char(struct kernel_failure_scan *scan, char c)
{
	if (c == '\r' || scan->size == sizeof(scan->line) - 1)
		return;
	scan->line[scan->size++] = c < ' ' || c > '~' ? '?' : c;
}

bool kernel_failure_put(struct kernel_failure_scan *scan, const void *text, size_t size)
{
	const char *bytes = text;

	for (size_t i = 0; i < size && !scan->found; i++) {
		if (bytes[i] != '\n') {
			put_char(scan, bytes[i]);
			continue;
		}
		scan->line[scan->size] = '\0';
		scan->size = 0;
		scan->found = sign_of(scan->line);
		if (scan->found)
			return true;
	}
	return false;
}

const char *kernel_failure_name(enum kernel_failure failure)
{
	static const char *const names[] = {
		[KERNEL_FINE] = "",
		[KERNEL_PANIC] = "panic",
		[KERNEL_OOPS] = "oops",
		[KERNEL_SOFT_LOCKUP] = "soft lockup",
		[KERNEL_HUNG_TASK] = "hung task",
	};

	return names[failure];
}
