// SPDX-License-Identifier: GPL-2.0-or-later
#include "freeze/park.h"

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

// Counts the acknowledgement if it is that generation which is waited for. True: it was the last one, and whoever
// is told so finds all the others' (acquire-release: each passes on what it saw).
static bool count_ack(struct rendezvous *r, u32 generation)
{
	u64 missing = __atomic_load_n(&r->missing, __ATOMIC_RELAXED);

	do {
		if (missing >> 32 != generation)
			return false;
	} while (!__atomic_compare_exchange_n(&r->missing, &missing, missing - 1, true, __ATOMIC_ACQ_REL,
					      __ATOMIC_RELAXED));
	return (u32)missing == 1;
}

void park_ack(struct park_slot *slot, u32 generation)
{
	// Counted twice, it would be taken for another thread's, and the last one would not be told of.
	if (slot->acked == generation)
		return;
	__atomic_store_n(&slot->acked, generation, __ATOMIC_RELEASE);
	if (count_ack(slot->rendezvous, generation))
		eventfd_write(slot->rendezvous->fd, 1);
}

u32 park_wait(struct park_slot *slot)
{
	u32 *word = &slot->rendezvous->generation;
	u32 generation;

	// A kick's signal, a wake-up for the generation before, a word that has changed already: look again.
	while ((generation = __atomic_load_n(word, __ATOMIC_SEQ_CST)) == slot->acked)
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, slot->acked, NULL, NULL, 0);
	if (generation & 1)
		return generation;
	__atomic_store_n(&slot->left_ns, clock_now_ns(), __ATOMIC_RELAXED);
	__atomic_store_n(&slot->left, generation, __ATOMIC_RELEASE);
	return 0;
}

void park_leave_for_good(struct park_slot *slot)
{
	// Whether it had been counted nobody can tell: the waiting side looks at the slots again.
	__atomic_store_n(&slot->gone, true, __ATOMIC_RELEASE);
	eventfd_write(slot->rendezvous->fd, 1);
}
