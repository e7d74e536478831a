/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads kernel modules from files.
 * Depends on agent/fail.h.
 * One that is loaded already is fine; dependencies are the caller's to put in order.
 */
#ifndef AGENT_MODULE_H
#define AGENT_MODULE_H

#include "agent/fail.h"

/* What the host wants loaded before there is a port: a path a line, in load order. No file: nothing. */
#define MODULES_FOR_PORT "/etc/ktstr/modules"

int module_load(const char *path, struct fail *f);
int modules_load_listed(const char *list, struct fail *f);

#endif
