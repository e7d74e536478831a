/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every scenario tells the host on port 1: that the guest is ready, text, its exit code.
 * Depends on console.h, print.h and tlv/codec.h; the console is open.
 * A frame is in the device's queue when a function returns; where the host has it, it says so.
 */
#ifndef TINY_REPORT_H
#define TINY_REPORT_H

#include "tiny/print.h"
#include "tlv/codec.h"

enum { REPORT_TEXT_SIZE = 3500 };

/* Text behind a struct wire_output, in place. */
struct report {
	struct wire_output head;
	char data[REPORT_TEXT_SIZE];
};

/* An empty text in the report's own memory. */
struct text report_text(struct report *report);
/* Sends it as a STDOUT frame and empties it. */
void report_output(struct report *report, struct text *text);

/* SYS_RDY, the first time. */
void report_ready(void);
/* SYS_RDY of a machine that goes on from a saved one, with the RUN_ID that it was given. */
void report_restored(const struct attr *run_id);
/* SYS_RDY, the first time, and the host has it. */
void report_at_work(void);
/* EXIT, and the host has it. */
void report_exit(s32 code);

#endif
