// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int fail_with(struct fail *f, int error, const char *fmt, ...)
{
	va_list args;

	f->error = error;
	va_start(args, fmt);
	vsnprintf(f->message, sizeof(f->message), fmt, args);
	va_end(args);
	return error;
}

int fail_errno(struct fail *f, const char *fmt, ...)
{
	va_list args;
	size_t n;

	f->error = errno;
	va_start(args, fmt);
	vsnprintf(f->message, sizeof(f->message), fmt, args);
	va_end(args);
	n = strlen(f->message);
	snprintf(f->message + n, sizeof(f->message) - n, ": %s", strerror(f->error));
	return f->error;
}
