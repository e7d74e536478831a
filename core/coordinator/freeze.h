/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * freeze(): the one way to stop a machine, for every source.
 * Depends on freeze, machine and the coordinator's inside. The coordinator's thread alone.
 * Whatever happens in the visitor, the machine is thawed and the gate open afterwards.
 */
#ifndef COORDINATOR_FREEZE_H
#define COORDINATOR_FREEZE_H

#include "base/error.h"
#include "freeze/state.h"

struct coordinator;

/*
 * Takes the gate, stops every vCPU, the devices and the clocks, calls visit(c, arg), lets all go, opens the gate;
 * returns the visitor's error. Without calling it: ERROR_BUSY (the gate is held; nothing has been queued),
 * ERROR_TIMEOUT (a vCPU did not park: which and where it was; the machine goes on), ERROR_ENDED.
 *
 * It runs the event loop while it waits, and so may the visitor: kill, deadlines and busy answers are served all
 * the time. Hence not to be called from within one of the loop's callbacks.
 */
MUST_CHECK struct error *freeze(struct coordinator *c, enum freeze_source source,
				struct error *(*visit)(struct coordinator *c, void *arg), void *arg);

/* For who arrives while the gate is held: counts it, and says so. */
MUST_CHECK struct error *freeze_reject(struct coordinator *c, enum freeze_source source);

/*
 * After each turn of the loop in a freeze: gives busy answers, and tells whether there is a reason to give up:
 * the machine is to end, or nobody waits for the answer. For rendezvous_wait().
 */
bool freeze_turn(void *coordinator);

#endif
