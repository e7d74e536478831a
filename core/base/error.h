/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one error shape: a function that can fail returns a struct error *, NULL when fine.
 * Depends on nothing above libc.
 * An error says what was asked, what was found, and (the hint) what to do; it is never lost silently.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/types.h"

enum error_code {
	ERROR_NO_MEMORY, /* the host is out of memory or address space */
	ERROR_OS, /* a system call failed; the message carries its errno's text */
	ERROR_INVALID, /* the caller's argument makes no sense */
	ERROR_FORMAT, /* a file or a message is not what it should be */
	ERROR_NOT_FOUND,
	ERROR_UNSUPPORTED, /* well formed, but not something ktstr or this host can do */
	ERROR_TIMEOUT,
	ERROR_BUSY, /* somebody else holds it; nothing was queued */
	ERROR_ENDED, /* the machine, or the peer, is gone */
	ERROR_INTERRUPTED, /* a signal asked the program to stop */
	ERROR_FROZEN, /* it needs a running machine, and this one is frozen */
	ERROR_RUNNING, /* it needs a frozen machine, and this one runs */
	ERROR_UNMAPPED, /* no memory of the guest's is at that address */
	ERROR_FREEZE_LIMIT, /* the machine was frozen for longer than was allowed, and has been thawed */
};

struct error;

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* Never returns NULL: when memory is short a static error stands in. The caller owns the result. */
MUST_CHECK struct error *error_create(enum error_code code, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ERROR_OS (ERROR_NO_MEMORY for ENOMEM) with ": strerror(errno)" appended; reads errno at entry. */
MUST_CHECK struct error *error_create_errno(const char *fmt, ...) PRINTF_LIKE(1, 2);

MUST_CHECK struct error *error_no_memory(void);

/* Replaces the error's hint and returns the same error; err may not be NULL. */
MUST_CHECK struct error *error_with_hint(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Puts "context: " in front of the message and returns the same error; NULL stays NULL. */
MUST_CHECK struct error *error_with_context(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

enum error_code error_code(const struct error *err);
const char *error_code_name(enum error_code code); /* "format", "not-found", ... */
const char *error_message(const struct error *err); /* one line, no full stop */
const char *error_hint(const struct error *err); /* NULL when there is none */

/* NULL is allowed. */
void error_destroy(struct error *err);

#endif
