/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A split virtqueue (virtio 1.x), the device's side, on a guest's memory that may lie.
 * Depends on kvm/memory.h. Not locked: its device is.
 * Every index, length and address is checked, nothing is read twice; what is wrong is an enum, not a crash.
 */
#ifndef DEVICE_VIRTQUEUE_H
#define DEVICE_VIRTQUEUE_H

#include <linux/virtio_ring.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "kvm/memory.h"

enum {
	VIRTQUEUE_MAX_SIZE = 256,
};

/* Why a ring was given up. virtqueue_fault_name() spells it. */
enum virtqueue_fault {
	VIRTQUEUE_OK,
	VIRTQUEUE_BAD_SIZE, /* 0, not a power of two, or more than offered */
	VIRTQUEUE_BAD_RING, /* a ring's address is misaligned or not memory */
	VIRTQUEUE_BAD_INDEX, /* the available index jumped by more than the queue's size */
	VIRTQUEUE_BAD_HEAD, /* a descriptor's number is not below the queue's size */
	VIRTQUEUE_BAD_CHAIN, /* longer than the queue's size, or a loop */
	VIRTQUEUE_BAD_BUFFER, /* a buffer is not memory */
	VIRTQUEUE_BAD_ORDER, /* a readable buffer after a writable one */
	VIRTQUEUE_BAD_INDIRECT, /* an indirect table: not negotiated, nested, empty, odd length, or not memory */
	VIRTQUEUE_FAULTS,
};

struct virtqueue {
	const struct guest_memory *memory;
	u16 max_size;
	/* As the guest set them; believed only once ready. */
	u16 size;
	u64 desc_address, avail_address, used_address;
	/* Running. */
	bool ready;
	bool event_idx, indirect; /* negotiated */
	u16 next_avail; /* ring index of the next chain to take, free-running */
	u16 next_used;
	u16 signalled_used; /* next_used when the guest was last interrupted */
	const struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
};

/* A chain of buffers: readable ones (for the device) first, then writable ones. Empty ones are left out. */
struct virtqueue_chain {
	u16 head;
	u32 readable, writable; /* how many of each in iov */
	u64 readable_size, writable_size; /* bytes */
	struct iovec iov[VIRTQUEUE_MAX_SIZE];
};

void virtqueue_init(struct virtqueue *q, const struct guest_memory *memory, u16 max_size);
/* As after a device reset: not ready, size as offered. */
void virtqueue_reset(struct virtqueue *q);
/* Checks size and rings and makes it ready, to go on at next_avail and next_used. */
enum virtqueue_fault virtqueue_start(struct virtqueue *q, bool event_idx, bool indirect);

/* The next chain, left in the ring: *found false when there is none. Not ready: none. */
enum virtqueue_fault virtqueue_peek(struct virtqueue *q, struct virtqueue_chain *chain, bool *found);
/* Takes the chain that virtqueue_peek() showed out of the available ring... */
void virtqueue_advance(struct virtqueue *q);
/* ... and gives it back to the guest, written bytes of its writable part filled. */
void virtqueue_push(struct virtqueue *q, u16 head, u32 written);
/* Whether the guest wants an interrupt for what was pushed since the last true. */
bool virtqueue_should_interrupt(struct virtqueue *q);

/* Asks the guest not to notify (a hint). */
void virtqueue_disable_notify(struct virtqueue *q);
/* Asks it to, for the next chain. True: more is there already, so look again. */
bool virtqueue_enable_notify(struct virtqueue *q);

const char *virtqueue_fault_name(enum virtqueue_fault fault);

void virtqueue_save(const struct virtqueue *q, struct buf *out);
/*
 * Into a virtqueue_init()ed q. It is not started yet: true when the saved one was, so that it should be. *ok
 * becomes false when the bytes make no sense.
 */
bool virtqueue_parse(struct virtqueue *q, struct reader *in, bool *ok);

/*
 * Copies out of a chain's readable part, into its writable part, from a byte offset in that part. Both stop at
 * the shorter's end and return how much that was.
 */
size_t virtqueue_copy_from(const struct virtqueue_chain *chain, u64 offset, void *data, size_t size);
size_t virtqueue_copy_to(const struct virtqueue_chain *chain, u64 offset, const void *data, size_t size);

#endif
