// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void log_line(const char *fmt, ...)
{
	const char *wanted = getenv("KTSTR_LOG");

	if (!wanted || !*wanted)
		return;

	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "ktstr: %s\n", line);
}
