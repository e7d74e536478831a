// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/kernel_failure.h"

#include <string.h>

/* What the kernel says in each case, 6.1 to 7.3; where there are two texts, both of them in one line, in order. */
static const struct {
	enum kernel_failure failure;
	const char *text, *then;
} signs[] = {
	{ KERNEL_PANIC, "Kernel panic - not syncing", NULL },
	{ KERNEL_OOPS, "BUG: kernel NULL pointer dereference, address: ", NULL },
	{ KERNEL_OOPS, "BUG: unable to handle page fault for address: ", NULL },
	{ KERNEL_OOPS, "kernel BUG at ", NULL },
	{ KERNEL_OOPS, "Oops: ", NULL },
	// Before 6.10 "Oops: " is only in front of page faults.
	{ KERNEL_OOPS, "general protection fault", " [#" },
	{ KERNEL_OOPS, ": 0000 [#", NULL },
	{ KERNEL_SOFT_LOCKUP, "BUG: soft lockup - ", NULL },
	{ KERNEL_HUNG_TASK, "INFO: task ", " blocked for more than " },
	{ KERNEL_HUNG_TASK, "INFO: task ", " blocked in I/O wait for more than " },
};

static bool has(const char *line, const char *text, const char *then)
{
	const char *found = strstr(line, text);

	return found && (!then || strstr(found + strlen(text), then));
}

static enum kernel_failure sign_of(const char *line)
{
	for (size_t i = 0; i < ARRAY_SIZE(signs); i++)
		if (has(line, signs[i].text, signs[i].then))
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
