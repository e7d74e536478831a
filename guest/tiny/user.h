/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User mode: segments, page permissions and the stack for the way back.
 * Depends on trap.h. What comes back by an interrupt goes on; an exception ends the guest as any does.
 */
#ifndef TINY_USER_H
#define TINY_USER_H

#include "base/types.h"

/* User mode may use the guest's own image and the first 2 MiB. Once, before another CPU is started. */
void user_allow_memory(void);
/* Counts in user mode, for ever. index: this CPU's. */
__attribute__((noreturn)) void user_count(u32 index, volatile u64 *counter);

#endif
