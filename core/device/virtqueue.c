// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/virtqueue.h"

#include <string.h>

#include "device/state.h"

/*
 * The fields that guest and host hand over by. What each side writes (the used index here, the event index
 * or flags there) must be visible before it reads the other's, or both could decide that nothing needs
 * telling: so every store is sequentially consistent, and so is the load behind it. (Fences would do the same,
 * but the thread sanitizer does not know them.)
 */
static u16 load(const u16 *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void store(u16 *p, u16 v)
{
	__atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

// Behind the rings, with EVENT_IDX: when the guest wants to be interrupted, when it is to notify.
static const u16 *used_event(const struct virtqueue *q)
{
	return &q->avail->ring[q->size];
}

static u16 *avail_event(const struct virtqueue *q)
{
	return (u16 *)&q->used->ring[q->size];
}

void virtqueue_init(struct virtqueue *q, const struct guest_memory *memory, u16 max_size)
{
	*q = (struct virtqueue){ .memory = memory, .max_size = max_size, .size = max_size };
}

void virtqueue_reset(struct virtqueue *q)
{
	virtqueue_init(q, q->memory, q->max_size);
}

enum virtqueue_fault virtqueue_start(struct virtqueue *q, bool event_idx, bool indirect)
{
	u32 size = q->size;

	if (!size || size & (size - 1) || size > q->max_size || size > VIRTQUEUE_MAX_SIZE)
		return VIRTQUEUE_BAD_SIZE;
	if (q->desc_address % VRING_DESC_ALIGN_SIZE || q->avail_address % VRING_AVAIL_ALIGN_SIZE ||
	    q->used_address % VRING_USED_ALIGN_SIZE)
		return VIRTQUEUE_BAD_RING;

	// Each ring ends with the other side's event index.
	const struct vring_desc *desc = guest_memory_at(q->memory, q->desc_address, size * sizeof(*desc));
	struct vring_avail *avail = guest_memory_at(
		q->memory, q->avail_address, sizeof(*avail) + (size + 1) * sizeof(avail->ring[0]));
	struct vring_used *used = guest_memory_at(
		q->memory, q->used_address, sizeof(*used) + size * sizeof(used->ring[0]) + sizeof(u16));

	if (!desc || !avail || !used)
		return VIRTQUEUE_BAD_RING;
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->event_idx = event_idx;
	q->indirect = indirect;
	q->signalled_used = q->next_used;
	q->ready = true;
	return VIRTQUEUE_OK;
}

// One copy, which the guest cannot change any more and the compiler may not take twice.
static struct vring_desc read_descriptor(const struct vring_desc *p)
{
	struct vring_desc d;

	memcpy(&d, p, sizeof(d));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return d;
}

static enum virtqueue_fault add_buffer(const struct virtqueue *q, const struct vring_desc *d,
				       struct virtqueue_chain *chain)
{
	if (!d->len)
		return VIRTQUEUE_OK;

	void *hva = guest_memory_at(q->memory, d->addr, d->len);

	if (!hva)
		return VIRTQUEUE_BAD_BUFFER;
	chain->iov[chain->readable + chain->writable] = (struct iovec){ .iov_base = hva, .iov_len = d->len };
	if (d->flags & VRING_DESC_F_WRITE) {
		chain->writable++;
		chain->writable_size += d->len;
		return VIRTQUEUE_OK;
	}
	if (chain->writable)
		return VIRTQUEUE_BAD_ORDER;
	chain->readable++;
	chain->readable_size += d->len;
	return VIRTQUEUE_OK;
}

// A table in memory that takes the place of the queue's own for the rest of a chain.
static enum virtqueue_fault enter_indirect(const struct virtqueue *q, const struct vring_desc *d,
					   const struct vring_desc **table, u32 *count)
{
	if (!q->indirect || *table != q->desc || d->flags & VRING_DESC_F_NEXT || d->len % sizeof(*d))
		return VIRTQUEUE_BAD_INDIRECT;

	const struct vring_desc *inner = guest_memory_at(q->memory, d->addr, d->len);

	if (!inner || inner == q->desc)
		return VIRTQUEUE_BAD_INDIRECT;
	*table = inner;
	*count = d->len / sizeof(*d);
	return VIRTQUEUE_OK;
}

static enum virtqueue_fault walk_chain(const struct virtqueue *q, struct virtqueue_chain *chain)
{
	const struct vring_desc *table = q->desc;
	u32 count = q->size, index = chain->head;

	// No chain is longer than the queue, so a loop shows by its length. Entering a table counts for
	// nothing, and happens once.
	for (u32 buffers = 0; buffers < q->size;) {
		struct vring_desc d = read_descriptor(&table[index]);
		bool indirect = d.flags & VRING_DESC_F_INDIRECT;
		enum virtqueue_fault fault = indirect ? enter_indirect(q, &d, &table, &count) :
							add_buffer(q, &d, chain);

		if (fault)
			return fault;
		if (!indirect && !(d.flags & VRING_DESC_F_NEXT))
			return VIRTQUEUE_OK;
		buffers += !indirect;
		index = indirect ? 0 : d.next;
		if (index >= count)
			return VIRTQUEUE_BAD_CHAIN;
	}
	return VIRTQUEUE_BAD_CHAIN;
}

enum virtqueue_fault virtqueue_peek(struct virtqueue *q, struct virtqueue_chain *chain, bool *found)
{
	*found = false;
	if (!q->ready)
		return VIRTQUEUE_OK;

	u16 waiting = load(&q->avail->idx) - q->next_avail;

	if (!waiting)
		return VIRTQUEUE_OK;
	if (waiting > q->size)
		return VIRTQUEUE_BAD_INDEX;

	chain->head = load(&q->avail->ring[q->next_avail % q->size]);
	chain->readable = chain->writable = 0;
	chain->readable_size = chain->writable_size = 0;
	if (chain->head >= q->size)
		return VIRTQUEUE_BAD_HEAD;

	enum virtqueue_fault fault = walk_chain(q, chain);

	*found = !fault;
	return fault;
}

void virtqueue_advance(struct virtqueue *q)
{
	q->next_avail++;
}

void virtqueue_push(struct virtqueue *q, u16 head, u32 written)
{
	struct vring_used_elem *elem = &q->used->ring[q->next_used % q->size];

	__atomic_store_n(&elem->id, head, __ATOMIC_RELAXED);
	__atomic_store_n(&elem->len, written, __ATOMIC_RELAXED);
	store(&q->used->idx, ++q->next_used);
}

bool virtqueue_should_interrupt(struct virtqueue *q)
{
	u16 old = q->signalled_used, new = q->next_used;

	if (!q->ready || old == new)
		return false;
	q->signalled_used = new;
	if (q->event_idx)
		return vring_need_event(load(used_event(q)), new, old);
	return !(load(&q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

void virtqueue_disable_notify(struct virtqueue *q)
{
	// With EVENT_IDX a stale event index does it: the guest has passed it.
	if (q->ready && !q->event_idx)
		store(&q->used->flags, VRING_USED_F_NO_NOTIFY);
}

bool virtqueue_enable_notify(struct virtqueue *q)
{
	if (!q->ready)
		return false;
	if (q->event_idx)
		store(avail_event(q), q->next_avail);
	else
		store(&q->used->flags, 0);
	return load(&q->avail->idx) != q->next_avail;
}

const char *virtqueue_fault_name(enum virtqueue_fault fault)
{
	static const char *const names[VIRTQUEUE_FAULTS] = {
		[VIRTQUEUE_OK] = "no fault",
		[VIRTQUEUE_BAD_SIZE] = "bad queue size",
		[VIRTQUEUE_BAD_RING] = "ring outside memory",
		[VIRTQUEUE_BAD_INDEX] = "available index jumped",
		[VIRTQUEUE_BAD_HEAD] = "no such descriptor",
		[VIRTQUEUE_BAD_CHAIN] = "descriptor chain without end",
		[VIRTQUEUE_BAD_BUFFER] = "buffer outside memory",
		[VIRTQUEUE_BAD_ORDER] = "readable buffer after a writable one",
		[VIRTQUEUE_BAD_INDIRECT] = "bad indirect table",
	};

	return fault < VIRTQUEUE_FAULTS ? names[fault] : "unknown fault";
}

void virtqueue_save(const struct virtqueue *q, struct buf *out)
{
	buf_put_u16(out, q->size);
	buf_put_u64(out, q->desc_address);
	buf_put_u64(out, q->avail_address);
	buf_put_u64(out, q->used_address);
	buf_put_u8(out, q->ready);
	buf_put_u16(out, q->next_avail);
	buf_put_u16(out, q->next_used);
}

bool virtqueue_parse(struct virtqueue *q, struct reader *in, bool *ok)
{
	q->size = reader_get_u16(in);
	q->desc_address = reader_get_u64(in);
	q->avail_address = reader_get_u64(in);
	q->used_address = reader_get_u64(in);

	bool started = state_get_bool(in, ok);

	q->next_avail = reader_get_u16(in);
	q->next_used = reader_get_u16(in);
	return started;
}

// Calls for copying between host memory and iov[0..count): exactly one of to, from is not NULL.
static size_t copy_iov(const struct iovec *iov, u32 count, u64 offset, u8 *to, const u8 *from, size_t size)
{
	size_t done = 0;

	for (u32 i = 0; i < count && done < size; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}

		u8 *guest = (u8 *)iov[i].iov_base + offset;
		size_t n = iov[i].iov_len - offset;

		if (n > size - done)
			n = size - done;
		if (to)
			memcpy(to + done, guest, n);
		else
			memcpy(guest, from + done, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t virtqueue_copy_from(const struct virtqueue_chain *chain, u64 offset, void *data, size_t size)
{
	return copy_iov(chain->iov, chain->readable, offset, data, NULL, size);
}

size_t virtqueue_copy_to(const struct virtqueue_chain *chain, u64 offset, const void *data, size_t size)
{
	return copy_iov(chain->iov + chain->readable, chain->writable, offset, NULL, data, size);
}
