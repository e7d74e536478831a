/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine's watches have seen: recorded in a freeze of the coordinator's, and kept until main takes it.
 * Depends on internal.h and machine/watch.h.
 * All that waits to be recorded is recorded in one freeze. What main does not take in time is dropped, and counted.
 */
#ifndef COORDINATOR_WATCHING_H
#define COORDINATOR_WATCHING_H

#include "coordinator/internal.h"

void watching_init(struct coordinator *c);
void watching_deinit(struct coordinator *c);
/* Something has been fired: served as soon as the loop's callback has returned. */
void watching_note(struct coordinator *c);
/* Freezes, records. Not from within a callback of the loop. */
void watching_serve(struct coordinator *c);

#endif
