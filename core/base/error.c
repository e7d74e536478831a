// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct error {
	enum error_code code;
	char *message;
	char *hint;
};

/* Handed out when an error itself cannot be allocated; never freed, never changed. */
static struct error out_of_memory = {
	.code = ERROR_NO_MEMORY,
	.message = (char *)"out of memory",
};

static struct error *create_va(enum error_code code, const char *fmt, va_list ap)
{
	struct error *err = calloc(1, sizeof(*err));

	if (!err)
		return &out_of_memory;
	err->code = code;
	if (vasprintf(&err->message, fmt, ap) < 0) {
		free(err);
		return &out_of_memory;
	}
	return err;
}

struct error *error_create(enum error_code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	struct error *err = create_va(code, fmt, ap);
	va_end(ap);
	return err;
}

struct error *error_create_errno(const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	struct error *err = create_va(saved == ENOMEM ? ERROR_NO_MEMORY : ERROR_OS, fmt, ap);
	va_end(ap);
	if (err == &out_of_memory)
		return err;

	char *with_reason;

	if (asprintf(&with_reason, "%s: %s", err->message, strerror(saved)) >= 0) {
		free(err->message);
		err->message = with_reason;
	}
	return err;
}

struct error *error_no_memory(void)
{
	return &out_of_memory;
}

struct error *error_with_hint(struct error *err, const char *fmt, ...)
{
	if (err == &out_of_memory)
		return err;

	va_list ap;
	char *hint;

	va_start(ap, fmt);
	if (vasprintf(&hint, fmt, ap) >= 0) {
		free(err->hint);
		err->hint = hint;
	}
	va_end(ap);
	return err;
}

struct error *error_with_context(struct error *err, const char *fmt, ...)
{
	if (!err || err == &out_of_memory)
		return err;

	va_list ap;
	char *context, *message;

	va_start(ap, fmt);
	int n = vasprintf(&context, fmt, ap);
	va_end(ap);
	if (n < 0)
		return err;
	if (asprintf(&message, "%s: %s", context, err->message) >= 0) {
		free(err->message);
		err->message = message;
	}
	free(context);
	return err;
}

enum error_code error_code(const struct error *err)
{
	return err->code;
}

const char *error_code_name(enum error_code code)
{
	static const char *const names[] = {
		[ERROR_NO_MEMORY] = "no-memory",
		[ERROR_OS] = "os",
		[ERROR_INVALID] = "invalid",
		[ERROR_FORMAT] = "format",
		[ERROR_NOT_FOUND] = "not-found",
		[ERROR_UNSUPPORTED] = "unsupported",
		[ERROR_TIMEOUT] = "timeout",
		[ERROR_BUSY] = "busy",
		[ERROR_ENDED] = "ended",
		[ERROR_INTERRUPTED] = "interrupted",
		[ERROR_FROZEN] = "frozen",
		[ERROR_RUNNING] = "running",
		[ERROR_UNMAPPED] = "unmapped",
		[ERROR_FREEZE_LIMIT] = "freeze-limit",
	};

	return names[code];
}

const char *error_message(const struct error *err)
{
	return err->message;
}

const char *error_hint(const struct error *err)
{
	return err->hint;
}

void error_destroy(struct error *err)
{
	if (!err || err == &out_of_memory)
		return;
	free(err->message);
	free(err->hint);
	free(err);
}
