/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For fuzzing devices: a small machine without KVM, whose guest the fuzzer plays.
 * Depends on core/device.
 * Made anew for each input, so that a crash is reproduced by its input alone.
 */
#ifndef TESTS_FUZZ_DEVICE_RIG_H
#define TESTS_FUZZ_DEVICE_RIG_H

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/i8042.h"
#include "device/ioapic.h"
#include "device/pic.h"
#include "device/pm.h"
#include "device/uart.h"
#include "device/virtio_console.h"

enum {
	RIG_MEMORY = 64 << 10,
	RIG_SLOT = 1,
	/* 4 KiB a queue up to the end of memory: available, used, and last descriptors, so that one too far is out. */
	RIG_RINGS = RIG_MEMORY - 0x1000 * CONSOLE_QUEUES,
	RIG_AVAIL = 0,
	RIG_USED = 0x400,
	RIG_DESC = 0xf00,
	RIG_QUEUE_SIZE = 16,
	RIG_WINDOW_SIZE = 0x10000000,
	RIG_ECAM = 0xe0000000u,
	RIG_FIXED = 0xc0008000u, /* a device that is not PCI's, inside the window */
};

#define RIG_WINDOW 0xc0000000ULL
#define RIG_WINDOW_HIGH (1ULL << 32)

struct rig {
	u8 *ram;
	struct guest_memory memory;
	struct bus ports, mmio;
	struct pci_host host;
	struct virtio_console con;
	struct uart uart;
	struct i8042 i8042;
	struct pm pm;
	struct pic pic;
	struct ioapic ioapic;
	u64 taken; /* bytes that input() took */
	u8 appetite; /* input() takes this many 256ths of what it is offered */
	u64 doorbells[64];
	u32 interrupts;
};

/* The rest of the input. */
struct food {
	const u8 *data;
	size_t size;
};

static inline u8 food_u8(struct food *f)
{
	if (!f->size)
		return 0;
	f->size--;
	return *f->data++;
}

static inline u16 food_u16(struct food *f)
{
	u16 low = food_u8(f);

	return low | food_u8(f) << 8;
}

static inline u32 food_u32(struct food *f)
{
	u32 low = food_u16(f);

	return low | (u32)food_u16(f) << 16;
}

static inline void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "broken promise: %s\n", what);
	abort();
}

static inline void must_work(struct error *err)
{
	must(!err, err ? error_message(err) : "");
}

static inline void rig_level(void *ctx, u32 gsi, bool level)
{
	((struct rig *)ctx)->interrupts++;
}

static inline void rig_msix_update(void *ctx, u32 index, u64 address, u32 data, bool masked)
{
	must(index < CONSOLE_VECTORS, "a vector is one of the device's");
}

static inline void rig_msix_raise(void *ctx, u32 index)
{
	must(index < CONSOLE_VECTORS, "a vector is one of the device's");
	((struct rig *)ctx)->interrupts++;
}

static const struct irq_ops rig_irq_ops = {
	.set_level = rig_level,
	.msix_update = rig_msix_update,
	.msix_raise = rig_msix_raise,
};

static inline void rig_deliver(void *ctx, u64 address, u32 data)
{
	((struct rig *)ctx)->interrupts++;
}

static inline void rig_route(void *ctx, u32 pin, u64 address, u32 data, bool masked)
{
	must(pin < IOAPIC_PINS, "a pin is one of the IOAPIC's");
}

static const struct ioapic_sink_ops rig_ioapic_ops = { .deliver = rig_deliver, .route = rig_route };

static inline void rig_reset(void *ctx, const char *by)
{
}

static inline void rig_power_off(void *ctx)
{
}

static const struct power_ops rig_power_ops = { .reset = rig_reset, .power_off = rig_power_off };

static inline void rig_output(void *ctx, const void *data, size_t size)
{
}

static inline struct error *rig_add_doorbell(void *ctx, u64 address, u32 size, int fd)
{
	struct rig *r = ctx;
	u64 *free_one = NULL;

	for (u32 i = 0; i < ARRAY_SIZE(r->doorbells); i++) {
		must(r->doorbells[i] != address, "a doorbell is added once");
		if (!r->doorbells[i])
			free_one = &r->doorbells[i];
	}
	must(free_one, "doorbells do not pile up");
	*free_one = address;
	return NULL;
}

static inline void rig_remove_doorbell(void *ctx, u64 address, u32 size, int fd)
{
	struct rig *r = ctx;
	u32 i = 0;

	while (i < ARRAY_SIZE(r->doorbells) && r->doorbells[i] != address)
		i++;
	must(i < ARRAY_SIZE(r->doorbells), "only what was added is removed");
	r->doorbells[i] = 0;
}

static const struct doorbell_ops rig_doorbell_ops = { rig_add_doorbell, rig_remove_doorbell };

static inline size_t rig_input(void *ctx, const void *data, size_t size)
{
	struct rig *r = ctx;
	size_t n = r->appetite == 0xff ? size : size * r->appetite >> 8;
	u8 sum = 0;

	must(size > 0 && size <= CONSOLE_INPUT_MAX, "input is never empty and never too much");
	for (size_t i = 0; i < size; i++) // the sanitizer checks that they are ours
		sum ^= ((const u8 *)data)[i];
	r->taken += n + (sum & 0);
	return n;
}

static const struct console_port_ops rig_port_ops = { .input = rig_input };

static inline void rig_fixed_read(void *device, u64 offset, void *data, u32 size)
{
	memset(data, 0, size);
}

static inline void rig_fixed_write(void *device, u64 offset, const void *data, u32 size)
{
}

static const struct device_ops rig_fixed_ops = {
	.name = "fixed",
	.read = rig_fixed_read,
	.write = rig_fixed_write,
};

static inline void rig_init_small_devices(struct rig *r)
{
	const struct power_sink power = { &rig_power_ops, r };
	const struct uart_config uart = {
		.gsi = 4,
		.irq = { &rig_irq_ops, r },
		.output = rig_output,
		.ctx = r,
	};

	must_work(uart_init(&r->uart, &uart));
	must_work(pm_init(&r->pm, power, 5));
	must_work(ioapic_init(&r->ioapic, 0, (struct ioapic_sink){ &rig_ioapic_ops, r }));
	i8042_init(&r->i8042, power);
	pic_init(&r->pic);
}

static inline void rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	r->appetite = 0xff;
	// From the heap and no more than there is, so that the sanitizer sees one byte too far.
	r->ram = aligned_alloc(4096, RIG_MEMORY);
	must(r->ram, "the host has memory");
	memset(r->ram, 0, RIG_MEMORY);
	r->memory = (struct guest_memory){
		.base = r->ram,
		.size = RIG_MEMORY,
		.region_count = 1,
		.regions = { { 0, RIG_MEMORY, r->ram } },
	};
	must_work(bus_init(&r->ports));
	must_work(bus_init(&r->mmio));

	const struct pci_host_config host = {
		.mmio = &r->mmio,
		.windows = { { RIG_WINDOW, RIG_WINDOW_SIZE }, { RIG_WINDOW_HIGH, RIG_WINDOW_SIZE } },
		.power = { &rig_power_ops, r },
	};
	struct virtio_console_config con = {
		.memory = &r->memory,
		.irq = { &rig_irq_ops, r },
		.doorbell = { &rig_doorbell_ops, r },
	};

	for (u32 i = 0; i < CONSOLE_PORTS; i++)
		con.ports[i] = (struct console_port){ &rig_port_ops, r };
	must_work(pci_host_init(&r->host, &host));
	must_work(bus_add(&r->ports, PCI_PORT, PCI_PORTS, &pci_port_ops, &r->host));
	must_work(bus_add(&r->mmio, RIG_ECAM, PCI_ECAM_SIZE, &pci_ecam_ops, &r->host));
	must_work(bus_add(&r->mmio, RIG_FIXED, 0x1000, &rig_fixed_ops, NULL));
	must_work(virtio_console_init(&r->con, &con));
	must_work(pci_add(&r->host, RIG_SLOT, &r->con.virtio.pci));
	must_work(pci_assign_bars(&r->host));
	rig_init_small_devices(r);
}

static inline void rig_deinit(struct rig *r)
{
	pci_host_deinit(&r->host);
	for (u32 i = 0; i < ARRAY_SIZE(r->doorbells); i++)
		must(!r->doorbells[i], "no doorbell is left behind");
	virtio_console_deinit(&r->con);
	uart_deinit(&r->uart);
	pm_deinit(&r->pm);
	ioapic_deinit(&r->ioapic);
	bus_deinit(&r->mmio);
	bus_deinit(&r->ports);
	free(r->ram);
}

static inline void rig_common(struct rig *r, u32 reg, u64 value, u32 size)
{
	bus_write(&r->mmio, RIG_WINDOW + VIRTIO_COMMON_OFFSET + reg, &value, size);
}

/* The console as a good driver leaves it: running, with small empty rings and its ports open. */
static inline void rig_start_console(struct rig *r, u64 features)
{
	const u16 command = PCI_COMMAND_MEMORY;

	bus_write(&r->mmio, RIG_ECAM + (RIG_SLOT << 15) + PCI_COMMAND, &command, 2);
	rig_common(r, VIRTIO_PCI_COMMON_STATUS, 0, 1);
	rig_common(r, VIRTIO_PCI_COMMON_STATUS, 3, 1);
	for (u32 i = 0; i < 2; i++) {
		rig_common(r, VIRTIO_PCI_COMMON_GFSELECT, i, 4);
		rig_common(r, VIRTIO_PCI_COMMON_GF, features >> 32 * i & 0xffffffff, 4);
	}
	rig_common(r, VIRTIO_PCI_COMMON_STATUS, 11, 1);
	for (u32 q = 0; q < CONSOLE_QUEUES; q++) {
		u64 at = RIG_RINGS + 0x1000 * q;

		memset(r->ram + at, 0, RIG_DESC); // descriptors stay as they are
		rig_common(r, VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
		rig_common(r, VIRTIO_PCI_COMMON_Q_SIZE, RIG_QUEUE_SIZE, 2);
		rig_common(r, VIRTIO_PCI_COMMON_Q_MSIX, q + 1, 2);
		rig_common(r, VIRTIO_PCI_COMMON_Q_DESCLO, at + RIG_DESC, 8);
		rig_common(r, VIRTIO_PCI_COMMON_Q_AVAILLO, at + RIG_AVAIL, 8);
		rig_common(r, VIRTIO_PCI_COMMON_Q_USEDLO, at + RIG_USED, 8);
		rig_common(r, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	}
	rig_common(r, VIRTIO_PCI_COMMON_STATUS, 15, 1);
	for (u32 i = 0; i < CONSOLE_PORTS; i++)
		r->con.states[i].guest_open = true;
}

#endif
