/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Has the kernel taken what was written to a cgroup's control?
 * Depends on base/types.h.
 * By meaning, not by letter: numbers, sizes and lists of CPUs have more than one spelling.
 */
#ifndef AGENT_CONTROL_VALUE_H
#define AGENT_CONTROL_VALUE_H

#include "base/types.h"

enum { CONTROL_MAX = 4096 }; /* longest value, with its NUL; a longer one does not match */

/* control is the file's name ("cpuset.cpus"); got is what it reads. */
bool control_value_matches(const char *control, const char *written, const char *got);

#endif
