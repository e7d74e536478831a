/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate: whoever freezes a machine holds it, and nobody else can meanwhile.
 * Depends on base/cleanup.h. One a machine; any thread.
 * The guard's life is the time of exclusion: however its scope ends, one store that cannot fail opens the gate.
 */
#ifndef FREEZE_GATE_H
#define FREEZE_GATE_H

#include "base/cleanup.h"
#include "base/error.h"
#include "base/types.h"

/* All zero is an open gate. Its member belongs to gate.c: a test reads the sources and says so. */
struct gate {
	bool held_by_guard;
};

/* Declare it with GATE_GUARD and = {}: a guard that holds no gate does nothing when it goes. */
struct gate_guard {
	struct gate *gate;
};

#define GATE_GUARD CLEANUP(gate_guard_release)

/*
 * Takes the gate if it is open: one atomic swap (acquire-release). True: the guard holds it. False: somebody
 * else does, nothing has changed, and nothing was queued.
 */
MUST_CHECK bool gate_try_acquire(struct gate *gate, struct gate_guard *guard);
/* Opens the gate, if the guard holds one: one atomic store (release). */
void gate_guard_release(struct gate_guard *guard);
/* For messages: by the time of the answer it may be different. */
bool gate_is_held(const struct gate *gate);

#endif
