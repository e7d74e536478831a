/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One timer, and how much time the guest saw pass until it fired.
 * Depends on trap.h and report.h.
 * Says "tsc N of M kHz, asked for K ms" on STDOUT, N ticks from the arming to the interrupt.
 */
#ifndef TINY_ALARM_H
#define TINY_ALARM_H

#include "base/types.h"

/* By the local APIC's count. SYS_RDY comes when it is armed. False: the TSC's frequency is not told. */
bool alarm_by_count(u32 ms);
/* By a deadline of the TSC. False also where there is none. */
bool alarm_by_deadline(u32 ms);

#endif
