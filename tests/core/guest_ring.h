/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's side of a split virtqueue, in a guest's memory: good, and as bad as a test wants it.
 * Depends on kvm/memory.h and linux/virtio_ring.h.
 * Offers and takes with the memory order that a driver on another CPU uses.
 */
#ifndef TESTS_GUEST_RING_H
#define TESTS_GUEST_RING_H

#include <linux/virtio_ring.h>
#include <string.h>

#include "kvm/memory.h"

struct guest_ring {
	struct guest_memory *memory;
	u16 size;
	u64 desc, avail, used; /* guest-physical */
	u16 offered, taken; /* free-running */
};

static inline void *guest_at(struct guest_memory *m, u64 gpa)
{
	return m->base + (gpa < m->regions[0].size ? gpa : 0);
}

/* Rings in 16 KiB from gpa on, zeroed. */
static inline void guest_ring_init(struct guest_ring *r, struct guest_memory *memory, u64 gpa, u16 size)
{
	*r = (struct guest_ring){
		.memory = memory,
		.size = size,
		.desc = gpa,
		.avail = gpa + 0x1000,
		.used = gpa + 0x2000,
	};
	memset(guest_at(memory, gpa), 0, 0x4000);
}

static inline struct vring_avail *guest_avail(struct guest_ring *r)
{
	return guest_at(r->memory, r->avail);
}

static inline struct vring_used *guest_used(struct guest_ring *r)
{
	return guest_at(r->memory, r->used);
}

static inline void guest_desc(struct guest_ring *r, u16 i, u64 addr, u32 len, u16 flags, u16 next)
{
	struct vring_desc *d = guest_at(r->memory, r->desc);

	d[i] = (struct vring_desc){ addr, len, flags, next };
}

static inline void guest_offer(struct guest_ring *r, u16 head)
{
	struct vring_avail *avail = guest_avail(r);

	__atomic_store_n(&avail->ring[r->offered % r->size], head, __ATOMIC_RELAXED);
	__atomic_store_n(&avail->idx, ++r->offered, __ATOMIC_RELEASE);
}

static inline void guest_set_idx(struct guest_ring *r, u16 idx)
{
	__atomic_store_n(&guest_avail(r)->idx, idx, __ATOMIC_RELEASE);
}

/* The next chain that the device has given back; false: none. */
static inline bool guest_take(struct guest_ring *r, u32 *id, u32 *len)
{
	struct vring_used *used = guest_used(r);

	if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == r->taken)
		return false;

	struct vring_used_elem *e = &used->ring[r->taken++ % r->size];

	*id = __atomic_load_n(&e->id, __ATOMIC_RELAXED);
	*len = __atomic_load_n(&e->len, __ATOMIC_RELAXED);
	return true;
}

/* With EVENT_IDX: the used index at which it wants the next interrupt. */
static inline void guest_set_used_event(struct guest_ring *r, u16 index)
{
	__atomic_store_n(&guest_avail(r)->ring[r->size], index, __ATOMIC_RELAXED);
}

#endif
