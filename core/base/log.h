/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines for whoever looks into a run, on stderr when the environment has KTSTR_LOG set.
 * Depends on libc. What a user must know is an error or a result, never only a line here.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/error.h"

void log_line(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
