/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest with a virtio-console in it, and its driver: finds the device by PCI, negotiates, drives all
 * queues over the bus; and the host's side, which remembers what its ports were told.
 * Depends on device_fixture.h, guest_ring.h.
 */
#ifndef TESTS_CONSOLE_DRIVER_H
#define TESTS_CONSOLE_DRIVER_H

#include "device_fixture.h"
#include "guest_ring.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "device/virtio_console.h"

enum {
	DRIVER_MEMORY = 16 << 20,
	DRIVER_RINGS = 0x10000, /* 16 KiB a queue */
	DRIVER_BUFFERS = 0x100000, /* 4 KiB a descriptor, DRIVER_QUEUE_BUFFERS a queue */
	DRIVER_BUFFER = 0x1000,
	DRIVER_QUEUE_BUFFERS = CONSOLE_QUEUE_SIZE * DRIVER_BUFFER,
	DRIVER_SLOT = 1,
	DRIVER_ECAM = 0xe0000000u,
	DRIVER_WINDOW = 0xc0000000u,
	DRIVER_DOORBELLS = 16,

	CONTROL_IN = 2, /* the queues of control messages, as the guest sees them */
	CONTROL_OUT = 3,
	EVENT_DEVICE_READY = 0,
	EVENT_PORT_ADD = 1,
	EVENT_PORT_READY = 3,
	EVENT_CONSOLE_PORT = 4,
	EVENT_PORT_OPEN = 6,
	EVENT_PORT_NAME = 7,
};

#define DRIVER_FEATURES                                                                       \
	(1ULL << VIRTIO_F_VERSION_1 | 1 << 1 /* MULTIPORT */ | 1 << VIRTIO_RING_F_EVENT_IDX | \
	 1 << VIRTIO_RING_F_INDIRECT_DESC)

struct control_message {
	u32 id;
	u16 event, value;
};

/* The host's side of a port. */
struct port_record {
	struct driver *driver;
	u32 port;
	u8 *data; /* what input() took */
	size_t size, capacity;
	size_t room; /* input() takes at most this much in all */
	u32 inputs, writables, opens, closes;
	bool open;
	void (*on_input)(struct port_record *r); /* called from input(), before it takes anything */
};

struct driver {
	struct guest_memory memory;
	struct bus ports, mmio;
	struct pci_host host;
	struct virtio_console con;
	struct irq_record irq;
	struct power_record power;
	struct port_record records[CONSOLE_PORTS];
	struct {
		u64 address;
		u32 size;
		int fd;
	} doorbells[DRIVER_DOORBELLS];
	bool refuse_doorbells;
	u64 bar, common, isr, config, notify;
	u32 notify_multiplier;
	struct guest_ring rings[CONSOLE_QUEUES];
};

static inline size_t driver_input(void *ctx, const void *data, size_t size)
{
	struct port_record *r = ctx;

	r->inputs++;
	if (r->on_input)
		r->on_input(r);

	size_t n = size < r->room ? size : r->room;

	if (r->size + n > r->capacity) {
		r->capacity = 2 * (r->size + n);
		r->data = realloc(r->data, r->capacity);
		assert_non_null(r->data);
	}
	if (n)
		memcpy(r->data + r->size, data, n);
	r->size += n;
	r->room -= n;
	return n;
}

static inline void driver_writable(void *ctx)
{
	((struct port_record *)ctx)->writables++;
}

static inline void driver_opened(void *ctx, bool open)
{
	struct port_record *r = ctx;

	assert_int_not_equal(r->open, open);
	r->open = open;
	if (open)
		r->opens++;
	else
		r->closes++;
}

static const struct console_port_ops driver_port_ops = {
	.input = driver_input,
	.writable = driver_writable,
	.opened = driver_opened,
};

static inline struct error *driver_add_doorbell(void *ctx, u64 address, u32 size, int fd)
{
	struct driver *d = ctx;
	u32 free_one = DRIVER_DOORBELLS;

	if (d->refuse_doorbells)
		return error_create(ERROR_OS, "no doorbells today");
	for (u32 i = 0; i < DRIVER_DOORBELLS; i++) {
		assert_true(d->doorbells[i].address != address);
		if (!d->doorbells[i].address)
			free_one = i;
	}
	assert_true(free_one < DRIVER_DOORBELLS);
	d->doorbells[free_one].address = address;
	d->doorbells[free_one].size = size;
	d->doorbells[free_one].fd = fd;
	return NULL;
}

static inline void driver_remove_doorbell(void *ctx, u64 address, u32 size, int fd)
{
	struct driver *d = ctx;

	for (u32 i = 0; i < DRIVER_DOORBELLS; i++) {
		if (d->doorbells[i].address != address)
			continue;
		assert_int_equal(d->doorbells[i].fd, fd);
		assert_int_equal(d->doorbells[i].size, size);
		d->doorbells[i].address = 0;
		return;
	}
	fail_msg("a doorbell was removed that was not there");
}

static const struct doorbell_ops driver_doorbell_ops = {
	.add = driver_add_doorbell,
	.remove = driver_remove_doorbell,
};

/* A write by the guest: through a doorbell where there is one, else over the bus. */
static inline void driver_store(struct driver *d, u64 address, u64 value, u32 size)
{
	for (u32 i = 0; i < DRIVER_DOORBELLS; i++) {
		if (d->doorbells[i].address == address && d->doorbells[i].size == size) {
			const u64 one = 1;

			assert_int_equal(write(d->doorbells[i].fd, &one, sizeof(one)), sizeof(one));
			return;
		}
	}
	bus_write(&d->mmio, address, &value, size);
}

static inline u64 driver_load(struct driver *d, u64 address, u32 size)
{
	u64 value = 0;

	bus_read(&d->mmio, address, &value, size);
	return value;
}

static inline u64 driver_config_register(u32 reg)
{
	return DRIVER_ECAM + (DRIVER_SLOT << 15) + reg;
}

/* Offset of the nth capability of this id; 0: there is none. */
static inline u32 driver_capability(struct driver *d, u8 id, u32 n)
{
	u32 at = driver_load(d, driver_config_register(PCI_CAPABILITY_LIST), 1);

	for (u32 i = 0; at && i < 48; i++) {
		if (driver_load(d, driver_config_register(at), 1) == id && !n--)
			return at;
		at = driver_load(d, driver_config_register(at + 1), 1);
	}
	return 0;
}

static inline void driver_find_regions(struct driver *d)
{
	u32 at;

	d->bar = driver_load(d, driver_config_register(PCI_BASE_ADDRESS_0), 8) & ~0xfULL;
	for (u32 n = 0; (at = driver_capability(d, PCI_CAP_ID_VNDR, n)); n++) {
		u32 type = driver_load(d, driver_config_register(at + 3), 1);
		u64 where = d->bar + driver_load(d, driver_config_register(at + 8), 4);

		if (type == VIRTIO_PCI_CAP_COMMON_CFG)
			d->common = where;
		else if (type == VIRTIO_PCI_CAP_ISR_CFG)
			d->isr = where;
		else if (type == VIRTIO_PCI_CAP_DEVICE_CFG)
			d->config = where;
		else if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
			d->notify = where;
		if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
			d->notify_multiplier = driver_load(d, driver_config_register(at + 16), 4);
	}
}

static inline void driver_init_memory(struct driver *d)
{
	assert_fine(guest_memory_init(&d->memory, DRIVER_MEMORY, 3ULL << 30, 4ULL << 30));
}

/* The machine, with the device found and its memory decoding on. */
static inline void driver_init(struct driver *d, bool doorbells)
{
	memset(d, 0, sizeof(*d));
	driver_init_memory(d);
	assert_fine(bus_init(&d->ports));
	assert_fine(bus_init(&d->mmio));

	const struct pci_host_config host = {
		.mmio = &d->mmio,
		.windows = { { DRIVER_WINDOW, 0x10000000 }, { 1ULL << 32, 1ULL << 32 } },
		.power = record_power(&d->power),
	};
	struct virtio_console_config config = {
		.memory = &d->memory,
		.irq = record_sink(&d->irq),
		.doorbell = { doorbells ? &driver_doorbell_ops : NULL, d },
	};

	for (u32 i = 0; i < CONSOLE_PORTS; i++) {
		d->records[i] = (struct port_record){ .driver = d, .port = i, .room = SIZE_MAX };
		config.ports[i] = (struct console_port){ &driver_port_ops, &d->records[i] };
	}
	assert_fine(pci_host_init(&d->host, &host));
	assert_fine(bus_add(&d->mmio, DRIVER_ECAM, PCI_ECAM_SIZE, &pci_ecam_ops, &d->host));
	assert_fine(virtio_console_init(&d->con, &config));
	assert_fine(pci_add(&d->host, DRIVER_SLOT, &d->con.virtio.pci));
	assert_fine(pci_assign_bars(&d->host));
	driver_store(d, driver_config_register(PCI_COMMAND), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	driver_find_regions(d);
}

static inline void driver_deinit(struct driver *d)
{
	pci_host_deinit(&d->host);
	for (u32 i = 0; i < DRIVER_DOORBELLS; i++)
		assert_true(d->doorbells[i].address == 0);
	virtio_console_deinit(&d->con);
	bus_deinit(&d->mmio);
	bus_deinit(&d->ports);
	guest_memory_deinit(&d->memory);
	for (u32 i = 0; i < CONSOLE_PORTS; i++)
		free(d->records[i].data);
}

static inline u8 driver_status(struct driver *d)
{
	return driver_load(d, d->common + VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline void driver_set_status(struct driver *d, u8 status)
{
	driver_store(d, d->common + VIRTIO_PCI_COMMON_STATUS, status, 1);
}

static inline u64 driver_device_features(struct driver *d)
{
	u64 features = 0;

	for (u32 i = 0; i < 2; i++) {
		driver_store(d, d->common + VIRTIO_PCI_COMMON_DFSELECT, i, 4);
		features |= driver_load(d, d->common + VIRTIO_PCI_COMMON_DF, 4) << 32 * i;
	}
	return features;
}

static inline void driver_set_features(struct driver *d, u64 features)
{
	for (u32 i = 0; i < 2; i++) {
		driver_store(d, d->common + VIRTIO_PCI_COMMON_GFSELECT, i, 4);
		driver_store(d, d->common + VIRTIO_PCI_COMMON_GF, features >> 32 * i & 0xffffffff, 4);
	}
}

/* Resets it and gets as far as FEATURES_OK. */
static inline void driver_begin(struct driver *d, u64 features)
{
	driver_set_status(d, 0);
	// The device may have to wait for another thread, which takes what the driver said before.
	for (u32 n = 0; driver_status(d); n++) {
		assert_true(n < 10000000);
		sched_yield();
	}
	driver_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	driver_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	driver_set_features(d, features);
	driver_set_status(d, driver_status(d) | VIRTIO_CONFIG_S_FEATURES_OK);
	assert_true(driver_status(d) & VIRTIO_CONFIG_S_FEATURES_OK);
}

/* Vector v has data 0x4000 + v and is unmasked; MSI-X is on. */
static inline void driver_set_vectors(struct driver *d)
{
	u32 at = driver_capability(d, PCI_CAP_ID_MSIX, 0);
	u64 table = d->bar + (driver_load(d, driver_config_register(at + PCI_MSIX_TABLE), 4) & ~7ULL);

	driver_store(d, driver_config_register(at + PCI_MSIX_FLAGS), PCI_MSIX_FLAGS_ENABLE, 2);
	for (u32 v = 0; v < CONSOLE_VECTORS; v++) {
		driver_store(d, table + 16 * v, 0xfee00000, 4);
		driver_store(d, table + 16 * v + 8, 0x4000 + v, 4);
		driver_store(d, table + 16 * v + 12, 0, 4);
	}
}

static inline void driver_set_queue(struct driver *d, u32 queue, u16 size)
{
	struct guest_ring *r = &d->rings[queue];

	guest_ring_init(r, &d->memory, DRIVER_RINGS + 0x4000 * queue, size);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_MSIX, queue + 1, 2);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_DESCLO, r->desc, 4);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_DESCHI, 0, 4);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_AVAILLO, r->avail, 4);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_AVAILHI, 0, 4);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_USEDLO, r->used, 4);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_USEDHI, 0, 4);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
}

/* All of the way to DRIVER_OK. */
static inline void driver_start(struct driver *d, u64 features)
{
	driver_begin(d, features);
	driver_set_vectors(d);
	driver_store(d, d->common + VIRTIO_PCI_COMMON_MSIX, 0, 2);
	for (u32 q = 0; q < CONSOLE_QUEUES; q++)
		driver_set_queue(d, q, CONSOLE_QUEUE_SIZE);
	driver_set_status(d, driver_status(d) | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(driver_status(d) & VIRTIO_CONFIG_S_DRIVER_OK);
}

static inline void driver_notify(struct driver *d, u32 queue)
{
	driver_store(d, d->notify + (u64)d->notify_multiplier * queue, queue, 2);
}

/* What the coordinator's loop does: serves every queue that has been kicked, until all is quiet. */
static inline u32 driver_serve(struct driver *d)
{
	u32 served = 0;

	for (u32 q = 0; q < CONSOLE_QUEUES; q++) {
		struct pollfd p = { .fd = virtio_console_fd(&d->con, q), .events = POLLIN };

		if (poll(&p, 1, 0) != 1)
			continue;
		virtio_console_serve(&d->con, q);
		assert_true(++served < 100000);
		q = UINT32_MAX; // from the start
	}
	return served;
}

static inline u32 driver_in_queue(u32 port)
{
	return port ? 2 * port + 2 : 0;
}

static inline u32 driver_out_queue(u32 port)
{
	return driver_in_queue(port) + 1;
}

static inline u64 driver_buffer(u32 queue, u32 head)
{
	return DRIVER_BUFFERS + (u64)queue * DRIVER_QUEUE_BUFFERS + head * DRIVER_BUFFER;
}

/* Puts one buffer of a page into a queue (the descriptors are used in turn); no notification. */
static inline void *driver_offer(struct driver *d, u32 queue, u32 size, bool writable)
{
	struct guest_ring *r = &d->rings[queue];
	u16 head = r->offered % r->size;
	u64 gpa = driver_buffer(queue, head);

	guest_desc(r, head, gpa, size, writable ? VRING_DESC_F_WRITE : 0, 0);
	guest_offer(r, head);
	return guest_at(&d->memory, gpa);
}

static inline void driver_send(struct driver *d, u32 port, const void *data, u32 size)
{
	struct guest_ring *r = &d->rings[driver_out_queue(port)];

	memcpy(guest_at(&d->memory, driver_buffer(driver_out_queue(port), r->offered % r->size)), data, size);
	driver_offer(d, driver_out_queue(port), size, false);
	driver_notify(d, driver_out_queue(port));
}

static inline void driver_control(struct driver *d, u32 id, u16 event, u16 value)
{
	struct guest_ring *r = &d->rings[CONTROL_OUT];
	const struct control_message m = { id, event, value };

	memcpy(guest_at(&d->memory, driver_buffer(CONTROL_OUT, r->offered % r->size)), &m, sizeof(m));
	driver_offer(d, CONTROL_OUT, sizeof(m), false);
	driver_notify(d, CONTROL_OUT);
}

/* Fills a receive queue with as many pages as it still takes. */
static inline void driver_fill(struct driver *d, u32 queue)
{
	struct guest_ring *r = &d->rings[queue];

	while ((u16)(r->offered - r->taken) < r->size)
		driver_offer(d, queue, DRIVER_BUFFER, true);
	driver_notify(d, queue);
}

/* The next buffer that the device filled: its bytes, and how many; NULL: none. */
static inline const void *driver_receive(struct driver *d, u32 queue, u32 *size)
{
	u32 id;

	if (!guest_take(&d->rings[queue], &id, size))
		return NULL;
	return guest_at(&d->memory, driver_buffer(queue, id));
}

/* A running device with all ports open and their receive queues full. */
static inline void driver_open_all(struct driver *d, u64 features)
{
	u32 size;

	driver_start(d, features);
	driver_fill(d, CONTROL_IN);
	driver_control(d, 0, EVENT_DEVICE_READY, 1);
	driver_serve(d);
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		driver_fill(d, driver_in_queue(port));
		driver_control(d, port, EVENT_PORT_READY, 1);
		driver_control(d, port, EVENT_PORT_OPEN, 1);
	}
	driver_serve(d);
	while (driver_receive(d, CONTROL_IN, &size))
		;
	driver_fill(d, CONTROL_IN);
	driver_serve(d);
	for (u32 port = 0; port < CONSOLE_PORTS; port++)
		assert_true(virtio_console_is_open(&d->con, port));
}

#endif
