/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A failure on its way to the host: an errno, and a sentence that names what was attempted.
 * Depends on libc.
 * A function that can fail returns 0, or the errno it has put into the struct fail.
 */
#ifndef AGENT_FAIL_H
#define AGENT_FAIL_H

#include "base/types.h"

struct fail {
	s32 error;
	char message[508];
};

int fail_with(struct fail *f, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The error is errno; its text is appended. */
int fail_errno(struct fail *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
