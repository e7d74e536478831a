/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU's side of a freeze: its place to park, where it says that it has stopped, and waits.
 * Depends on base and rendezvous.h. Each slot belongs to one vCPU's thread; park_is_wanted() costs one load.
 * What the thread wrote before park_ack() is seen by whoever found the rendezvous complete; what was written
 * before the thaw is seen by the thread after park_wait().
 *
 * The thread's loop, where no wake-up can be lost (the kick comes after the generation has become odd):
 *
 *	for (;;) {
 *		if (park_is_wanted(slot)) {
 *			retire the pending exit
 *			for (u32 g = park_wanted(slot); g; g = park_wait(slot)) {
 *				what is to be done in generation g
 *				park_ack(slot, g);
 *			}
 *		}
 *		clear immediate_exit (a full barrier)
 *		if (park_is_wanted(slot))
 *			continue;
 *		KVM_RUN
 *	}
 */
#ifndef FREEZE_PARK_H
#define FREEZE_PARK_H

#include "freeze/rendezvous.h"

/* The generation that waits for this slot's acknowledgement, or 0. Sequentially consistent. */
static inline u32 park_wanted(const struct park_slot *slot)
{
	u32 generation = __atomic_load_n(&slot->rendezvous->generation, __ATOMIC_SEQ_CST);

	return generation & 1 && generation != slot->acked ? generation : 0;
}

static inline bool park_is_wanted(const struct park_slot *slot)
{
	return park_wanted(slot) != 0;
}

/* The thread has stopped for that generation, and does nothing to the machine until park_wait() returns. */
void park_ack(struct park_slot *slot, u32 generation);

/*
 * Waits until the generation is another than the one acknowledged last. Returns it when it is odd (there is
 * something to do: acknowledge again), 0 when the machine is thawed: the slot counts as left.
 */
u32 park_wait(struct park_slot *slot);

/* The thread ends: no rendezvous waits for it any more, now or later. */
void park_leave_for_good(struct park_slot *slot);

#endif
