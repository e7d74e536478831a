// SPDX-License-Identifier: GPL-2.0-or-later
#include "freeze/gate.h"

bool gate_try_acquire(struct gate *gate, struct gate_guard *guard)
{
	if (__atomic_exchange_n(&gate->held_by_guard, true, __ATOMIC_ACQ_REL))
		return false;
	guard->gate = gate;
	return true;
}

void gate_guard_release(struct gate_guard *guard)
{
	if (!guard->gate)
		return;
	// Pairs with the swap of whoever acquires next: it sees all that was done under this guard.
	__atomic_store_n(&guard->gate->held_by_guard, false, __ATOMIC_RELEASE);
	guard->gate = NULL;
}

bool gate_is_held(const struct gate *gate)
{
	return __atomic_load_n(&gate->held_by_guard, __ATOMIC_RELAXED);
}
