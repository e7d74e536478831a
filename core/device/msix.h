/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI-X: a table of vectors and their pending bits, with masking.
 * Depends on device/bus.h (irq_sink). Has its own lock, innermost: sink callbacks come under it.
 * A vector raised while masked is pending, and is raised once when unmasked; none is lost.
 */
#ifndef DEVICE_MSIX_H
#define DEVICE_MSIX_H

#include "device/bus.h"

enum {
	MSIX_MAX_VECTORS = 64, /* the pending bits are one word */
	MSIX_ENTRY_SIZE = 16,
	MSIX_PENDING_SIZE = 8,
};

struct msix_entry {
	u64 address;
	u32 data;
	u32 control; /* bit 0: masked */
};

struct msix {
	struct irq_sink irq;
	pthread_mutex_t lock;
	u32 count;
	bool enabled, function_masked; /* message control, bits 15 and 14 */
	u64 pending;
	struct msix_entry entries[MSIX_MAX_VECTORS];
};

/* All masked and disabled, as after reset. irq.ops->msix_update comes when what is unmasked changes. */
MUST_CHECK struct error *msix_init(struct msix *msix, u32 count, struct irq_sink irq);
void msix_deinit(struct msix *msix);

/* The guest's accesses; offset and size may be anything (what lies outside reads as zero). */
void msix_table_read(struct msix *msix, u64 offset, void *data, u32 size);
void msix_table_write(struct msix *msix, u64 offset, const void *data, u32 size);
void msix_pending_read(struct msix *msix, u64 offset, void *data, u32 size);
/* Message control as the guest wrote it. */
void msix_set_control(struct msix *msix, u16 control);

/* Any thread. A vector that does not exist, or MSI-X disabled: nothing happens. */
void msix_raise(struct msix *msix, u32 vector);

/* For the owner's device_state_ops. Load checks all before it changes anything, and updates the sink. */
void msix_save(struct msix *msix, struct buf *out);
struct msix_state {
	u64 pending;
	struct msix_entry entries[MSIX_MAX_VECTORS];
};
/* In two steps, so that the owner can check the rest of its own state between them. */
MUST_CHECK struct error *msix_parse(const struct msix *msix, struct reader *in, struct msix_state *ret);
void msix_apply(struct msix *msix, const struct msix_state *state);

#endif
