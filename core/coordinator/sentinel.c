// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/sentinel.h"

#include <string.h>

static const char mark[] = "KTSTR_EXIT:";

/* A decimal number right at p, and a line's end right behind it. */
static bool parse_code(const char *p, const char *end, s32 *code)
{
	bool negative = p < end && *p == '-';
	s64 v = 0;

	p += negative;

	const char *digits = p;

	for (; p < end && *p >= '0' && *p <= '9'; p++) {
		v = v * 10 + (*p - '0');
		if (v > -(s64)INT32_MIN)
			return false;
	}
	if (p == digits || p == end || (*p != '\r' && *p != '\n'))
		return false;
	v = negative ? -v : v;
	if (v > INT32_MAX)
		return false;
	*code = (s32)v;
	return true;
}

bool sentinel_find(const void *text, size_t size, s32 *code)
{
	const char *p = text;
	const char *end = size ? p + size : p;
	bool found = false;

	while (p < end && (p = memmem(p, (size_t)(end - p), mark, strlen(mark)))) {
		p += strlen(mark);
		found |= parse_code(p, end, code);
	}
	return found;
}
