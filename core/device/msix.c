// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/msix.h"

#include <linux/pci_regs.h>
#include <string.h>

struct error *msix_init(struct msix *msix, u32 count, struct irq_sink irq)
{
	if (!count || count > MSIX_MAX_VECTORS)
		return error_create(ERROR_INVALID, "a device cannot have %u MSI-X vectors, only 1 to %u", count,
				    MSIX_MAX_VECTORS);
	*msix = (struct msix){ .irq = irq, .count = count };
	for (u32 i = 0; i < count; i++)
		msix->entries[i].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;

	int e = pthread_mutex_init(&msix->lock, NULL);

	return e ? error_create(ERROR_OS, "cannot create an MSI-X lock: %s", strerror(e)) : NULL;
}

void msix_deinit(struct msix *msix)
{
	pthread_mutex_destroy(&msix->lock);
}

static bool is_masked(const struct msix *msix, u32 vector)
{
	return !msix->enabled || msix->function_masked ||
	       msix->entries[vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

// After any change to a vector: the sink learns what is now in force, and what was held back is raised.
static void update_vector(struct msix *msix, u32 vector, bool was_masked)
{
	const struct msix_entry *entry = &msix->entries[vector];
	bool masked = is_masked(msix, vector);

	if (masked && was_masked)
		return;
	msix->irq.ops->msix_update(msix->irq.ctx, vector, entry->address, entry->data, masked);
	if (!masked && msix->pending & 1ULL << vector) {
		msix->pending &= ~(1ULL << vector);
		msix->irq.ops->msix_raise(msix->irq.ctx, vector);
	}
}

void msix_raise(struct msix *msix, u32 vector)
{
	pthread_mutex_lock(&msix->lock);
	if (vector >= msix->count || !msix->enabled)
		; // nobody listens
	else if (is_masked(msix, vector))
		msix->pending |= 1ULL << vector;
	else
		msix->irq.ops->msix_raise(msix->irq.ctx, vector);
	pthread_mutex_unlock(&msix->lock);
}

void msix_set_control(struct msix *msix, u16 control)
{
	bool was_masked[MSIX_MAX_VECTORS];

	pthread_mutex_lock(&msix->lock);
	for (u32 i = 0; i < msix->count; i++)
		was_masked[i] = is_masked(msix, i);
	msix->enabled = control & PCI_MSIX_FLAGS_ENABLE;
	msix->function_masked = control & PCI_MSIX_FLAGS_MASKALL;
	for (u32 i = 0; i < msix->count; i++)
		update_vector(msix, i, was_masked[i]);
	pthread_mutex_unlock(&msix->lock);
}

// The part of the access that lies within length bytes; 0: none.
static u32 clip(u64 offset, u32 size, u64 length)
{
	if (offset >= length)
		return 0;
	return size < length - offset ? size : length - offset;
}

void msix_table_read(struct msix *msix, u64 offset, void *data, u32 size)
{
	memset(data, 0, size);
	pthread_mutex_lock(&msix->lock);
	memcpy(data, (u8 *)msix->entries + (offset < sizeof(msix->entries) ? offset : 0),
	       clip(offset, size, msix->count * MSIX_ENTRY_SIZE));
	pthread_mutex_unlock(&msix->lock);
}

void msix_table_write(struct msix *msix, u64 offset, const void *data, u32 size)
{
	_Static_assert(sizeof(struct msix_entry) == MSIX_ENTRY_SIZE, "the guest sees the entries as they are");

	// Software writes whole dwords or quadwords; anything else is undefined, and dropped here.
	if ((size != 4 && size != 8) || offset % size || !clip(offset, size, msix->count * MSIX_ENTRY_SIZE))
		return;

	u32 vector = offset / MSIX_ENTRY_SIZE;

	pthread_mutex_lock(&msix->lock);

	bool was_masked = is_masked(msix, vector);

	memcpy((u8 *)msix->entries + offset, data, size);
	msix->entries[vector].control &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	update_vector(msix, vector, was_masked);
	pthread_mutex_unlock(&msix->lock);
}

void msix_pending_read(struct msix *msix, u64 offset, void *data, u32 size)
{
	memset(data, 0, size);
	pthread_mutex_lock(&msix->lock);

	u64 pending = msix->pending;

	pthread_mutex_unlock(&msix->lock);
	memcpy(data, (u8 *)&pending + (offset < sizeof(pending) ? offset : 0),
	       clip(offset, size, sizeof(pending)));
}

void msix_save(struct msix *msix, struct buf *out)
{
	pthread_mutex_lock(&msix->lock);
	buf_put_u64(out, msix->pending);
	for (u32 i = 0; i < msix->count; i++) {
		buf_put_u64(out, msix->entries[i].address);
		buf_put_u32(out, msix->entries[i].data);
		buf_put_u32(out, msix->entries[i].control);
	}
	pthread_mutex_unlock(&msix->lock);
}

struct error *msix_parse(const struct msix *msix, struct reader *in, struct msix_state *ret)
{
	bool ok = true;

	*ret = (struct msix_state){ .pending = reader_get_u64(in) };
	for (u32 i = 0; i < msix->count; i++) {
		ret->entries[i].address = reader_get_u64(in);
		ret->entries[i].data = reader_get_u32(in);
		ret->entries[i].control = reader_get_u32(in);
		ok = ok && !(ret->entries[i].control & ~PCI_MSIX_ENTRY_CTRL_MASKBIT);
	}
	if (msix->count < MSIX_MAX_VECTORS)
		ok = ok && !(ret->pending >> msix->count);
	return ok ? NULL : error_create(ERROR_FORMAT, "saved MSI-X table has bits that no guest can set");
}

void msix_apply(struct msix *msix, const struct msix_state *state)
{
	pthread_mutex_lock(&msix->lock);
	msix->pending = state->pending;
	for (u32 i = 0; i < msix->count; i++) {
		bool was_masked = is_masked(msix, i);

		msix->entries[i] = state->entries[i];
		update_vector(msix, i, was_masked);
	}
	pthread_mutex_unlock(&msix->lock);
}
