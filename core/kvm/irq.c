// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/irq.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* What every KVM takes (KVM_CAP_IRQ_ROUTING says more); ktstr's machines use a few dozen. */
enum { GSI_MAX = 1024 };

/* ISA's timer is pin 2 of the IOAPIC; pin 0 has nothing, and the PIC's line 2 is its cascade. */
enum {
	PIC_LINES = 16,
	TIMER_LINE = 0,
	CASCADE_LINE = 2,
};

static void unlock(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

#define LOCKED(routes)                                            \
	pthread_mutex_t *held_ CLEANUP(unlock) = &(routes)->lock; \
	pthread_mutex_lock(held_)

struct error *irq_routes_init(struct irq_routes *routes, const struct vm *vm)
{
	*routes = (struct irq_routes){ .vm = vm, .count = VM_IOAPIC_PINS, .capacity = 64, .dirty = true };
	routes->messages = calloc(routes->capacity, sizeof(routes->messages[0]));
	if (!routes->messages)
		return error_no_memory();
	pthread_mutex_init(&routes->lock, NULL);

	struct error *err = irq_routes_commit(routes);

	if (err)
		irq_routes_deinit(routes);
	return err;
}

void irq_routes_deinit(struct irq_routes *routes)
{
	if (!routes->messages)
		return;
	pthread_mutex_destroy(&routes->lock);
	free(routes->messages);
	routes->messages = NULL;
}

static struct error *grow(struct irq_routes *routes, u32 count)
{
	if (count <= routes->capacity)
		return NULL;

	u32 capacity = routes->capacity;

	while (capacity < count)
		capacity *= 2;

	struct irq_message *messages = realloc(routes->messages, capacity * sizeof(messages[0]));

	if (!messages)
		return error_no_memory();
	memset(messages + routes->capacity, 0, (capacity - routes->capacity) * sizeof(messages[0]));
	routes->messages = messages;
	routes->capacity = capacity;
	return NULL;
}

struct error *irq_routes_allocate(struct irq_routes *routes, u32 count, u32 *ret)
{
	LOCKED(routes);

	if (count > GSI_MAX - routes->count)
		return error_create(ERROR_INVALID, "%u more interrupt routes are asked for, %u are left", count,
				    GSI_MAX - routes->count);

	struct error *err = grow(routes, routes->count + count);

	if (err)
		return err;
	*ret = routes->count;
	routes->count += count;
	return NULL;
}

struct error *irq_routes_set(struct irq_routes *routes, u32 gsi, const struct irq_message *message)
{
	LOCKED(routes);

	u32 first = routes->vm->irqchip == VM_IRQCHIP_SPLIT ? 0 : VM_IOAPIC_PINS;

	if (gsi < first || gsi >= routes->count)
		return error_create(ERROR_INVALID, "GSI %u has no message-signalled route (%u to %u have)", gsi,
				    first, routes->count - 1);

	struct irq_message *m = &routes->messages[gsi];

	if (m->address == message->address && m->data == message->data && m->valid == message->valid)
		return NULL;
	routes->dirty |= m->valid || message->valid;
	*m = *message;
	return NULL;
}

static void add_pin(struct kvm_irq_routing *table, u32 gsi, u32 irqchip, u32 pin)
{
	table->entries[table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = irqchip, .pin = pin },
	};
}

static void add_pins(struct kvm_irq_routing *table)
{
	for (u32 line = 0; line < PIC_LINES; line++) {
		if (line == CASCADE_LINE)
			continue;
		add_pin(table, line, line < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, line % 8);
	}
	for (u32 pin = 0; pin < VM_IOAPIC_PINS; pin++) {
		if (pin == CASCADE_LINE)
			continue;
		add_pin(table, pin, KVM_IRQCHIP_IOAPIC, pin == TIMER_LINE ? CASCADE_LINE : pin);
	}
}

static void add_message(struct kvm_irq_routing *table, u32 gsi, const struct irq_message *m)
{
	table->entries[table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {
			.address_lo = (u32)m->address,
			.address_hi = (u32)(m->address >> 32),
			.data = m->data,
		},
	};
}

struct error *irq_routes_commit(struct irq_routes *routes)
{
	LOCKED(routes);

	if (!routes->dirty)
		return NULL;

	u32 most = PIC_LINES + VM_IOAPIC_PINS + routes->count;
	CLEANUP_FREE struct kvm_irq_routing *table =
		calloc(1, sizeof(*table) + most * sizeof(table->entries[0]));

	if (!table)
		return error_no_memory();
	if (routes->vm->irqchip == VM_IRQCHIP_KERNEL)
		add_pins(table);
	for (u32 gsi = 0; gsi < routes->count; gsi++)
		if (routes->messages[gsi].valid)
			add_message(table, gsi, &routes->messages[gsi]);

	struct error *err =
		KVM_IOCTL(routes->vm->fd, KVM_SET_GSI_ROUTING, table, "where interrupts are delivered");

	if (!err)
		routes->dirty = false;
	return err;
}
