// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/pci.h"

#include <inttypes.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "device/state.h"

enum {
	// Ports, from PCI_PORT.
	PORT_ADDRESS = 0,
	PORT_RESET = 1,
	PORT_DATA = 4,

	RESET_CPU = 1 << 2,
	RESET_STORED = 1 << 1 | 1 << 3, // system reset, full reset
	STATE_VERSION = 1,
};

static const u32 address_enable = 1u << 31;

static u16 get_u16(const u8 *p)
{
	u16 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static u64 bar_register(const struct pci_bar *bar)
{
	u64 v;

	memcpy(&v, bar->pci->config + PCI_BASE_ADDRESS_0 + 4 * bar->index, sizeof(v));
	return v & PCI_BASE_ADDRESS_MEM_MASK;
}

// --- mapping BARs; all under host->lock ---

static void bar_read(void *device, u64 offset, void *data, u32 size)
{
	struct pci_bar *bar = device;

	bar->pci->ops->bar_read(bar->pci->device, bar->index, offset, data, size);
}

static void bar_write(void *device, u64 offset, const void *data, u32 size)
{
	struct pci_bar *bar = device;

	bar->pci->ops->bar_write(bar->pci->device, bar->index, offset, data, size);
}

static const struct device_ops bar_ops = { .name = "PCI BAR", .read = bar_read, .write = bar_write };

// Where the guest wants the BAR decoded; 0: nowhere.
static u64 wanted_address(const struct pci_bar *bar)
{
	return get_u16(bar->pci->config + PCI_COMMAND) & PCI_COMMAND_MEMORY ? bar_register(bar) : 0;
}

static bool is_in_window(const struct pci_host *host, u64 address, u64 size)
{
	for (u32 i = 0; i < PCI_WINDOWS; i++) {
		const struct pci_window *w = &host->config.windows[i];

		if (address >= w->start && address - w->start < w->size &&
		    size <= w->size - (address - w->start))
			return true;
	}
	return false;
}

static void tell_moved(struct pci_bar *bar)
{
	if (bar->pci->ops->bar_moved)
		bar->pci->ops->bar_moved(bar->pci->device, bar->index, bar->address);
}

static void unmap_bar(struct pci_host *host, struct pci_bar *bar)
{
	bus_remove(host->config.mmio, bar->address);
	bar->address = 0;
	tell_moved(bar);
}

static void map_bar(struct pci_host *host, struct pci_bar *bar, u64 address)
{
	struct error *err = NULL;
	bool fits = is_in_window(host, address, bar->size);

	if (fits)
		err = bus_add(host->config.mmio, address, bar->size, &bar_ops, bar);
	if (!fits || err) {
		error_destroy(err);
		if (bar->refused != address)
			host->bars_refused++;
		bar->refused = address;
		return;
	}
	bar->address = address;
	bar->refused = 0;
	tell_moved(bar);
}

/*
 * Makes the bus agree with all configuration spaces. All that must go goes first, and one that was
 * refused is tried again: its place may be free now.
 */
static void map_bars(struct pci_host *host)
{
	for (u32 pass = 0; pass < 2; pass++) {
		for (u32 i = 0; i < PCI_SLOTS * PCI_BARS; i++) {
			struct pci_device *pci = host->slots[i / PCI_BARS];
			struct pci_bar *bar = pci ? &pci->bars[i % PCI_BARS] : NULL;

			if (!bar || !bar->size)
				continue;

			u64 wanted = wanted_address(bar);

			if (!wanted)
				bar->refused = 0;
			if (pass == 0 && bar->address && bar->address != wanted)
				unmap_bar(host, bar);
			if (pass == 1 && wanted && bar->address != wanted)
				map_bar(host, bar, wanted);
		}
	}
}

// --- configuration accesses ---

// devfn: slot and function as both mechanisms encode them.
static struct pci_device *find_device(struct pci_host *host, u32 bus, u32 devfn, u32 reg, u32 size)
{
	if (bus || devfn & 7 || reg >= PCI_CONFIG_SIZE || size > PCI_CONFIG_SIZE - reg)
		return NULL;
	return host->slots[devfn >> 3];
}

static void read_config(struct pci_host *host, u32 bus, u32 devfn, u32 reg, void *data, u32 size)
{
	struct pci_device *pci = find_device(host, bus, devfn, reg, size);

	memset(data, 0xff, size);
	if (!pci)
		return;
	pthread_mutex_lock(&host->lock);
	if (pci->ops->config_read)
		pci->ops->config_read(pci->device, pci->config, reg, size);
	memcpy(data, pci->config + reg, size);
	pthread_mutex_unlock(&host->lock);
}

static bool overlaps(u32 reg, u32 size, u32 start, u32 length)
{
	return reg < start + length && start < reg + size;
}

static void write_config(struct pci_host *host, u32 bus, u32 devfn, u32 reg, const u8 *data, u32 size)
{
	struct pci_device *pci = find_device(host, bus, devfn, reg, size);

	if (!pci)
		return;
	pthread_mutex_lock(&host->lock);
	for (u32 i = 0; i < size; i++) {
		u8 writable = pci->writable[reg + i];

		pci->config[reg + i] = (pci->config[reg + i] & ~writable) | (data[i] & writable);
	}
	if (overlaps(reg, size, PCI_COMMAND, 2) || overlaps(reg, size, PCI_BASE_ADDRESS_0, 4 * PCI_BARS))
		map_bars(host);
	if (pci->msix && overlaps(reg, size, pci->msix_capability + PCI_MSIX_FLAGS, 2))
		msix_set_control(pci->msix, get_u16(pci->config + pci->msix_capability + PCI_MSIX_FLAGS));
	if (pci->ops->config_write)
		pci->ops->config_write(pci->device, pci->config, reg, size);
	pthread_mutex_unlock(&host->lock);
}

static void port_read(void *device, u64 offset, void *data, u32 size)
{
	struct pci_host *host = device;

	memset(data, 0xff, size);
	pthread_mutex_lock(&host->lock);

	u32 address = host->address;
	u8 reset_control = host->reset_control;

	pthread_mutex_unlock(&host->lock);
	if (offset == PORT_ADDRESS && size == 4)
		memcpy(data, &address, size);
	else if (offset == PORT_RESET && size == 1)
		*(u8 *)data = reset_control;
	else if (offset >= PORT_DATA && address & address_enable)
		read_config(host, address >> 16 & 0xff, address >> 8 & 0xff,
			    (address & 0xfc) + (offset - PORT_DATA), data, size);
}

static void port_write(void *device, u64 offset, const void *data, u32 size)
{
	struct pci_host *host = device;
	u8 reset = offset == PORT_RESET && size == 1 ? *(const u8 *)data : 0;

	pthread_mutex_lock(&host->lock);
	if (offset == PORT_ADDRESS && size == 4)
		memcpy(&host->address, data, size);
	else if (offset == PORT_RESET && size == 1)
		host->reset_control = reset & RESET_STORED;

	u32 address = host->address;

	pthread_mutex_unlock(&host->lock);
	if (offset >= PORT_DATA && address & address_enable)
		write_config(host, address >> 16 & 0xff, address >> 8 & 0xff,
			     (address & 0xfc) + (offset - PORT_DATA), data, size);
	if (reset & RESET_CPU)
		host->config.power.ops->reset(host->config.power.ctx, "port 0xcf9");
}

const struct device_ops pci_port_ops = { .name = "PCI ports", .read = port_read, .write = port_write };

static void ecam_read(void *device, u64 offset, void *data, u32 size)
{
	read_config(device, offset >> 20, offset >> 12 & 0xff, offset & 0xfff, data, size);
}

static void ecam_write(void *device, u64 offset, const void *data, u32 size)
{
	write_config(device, offset >> 20, offset >> 12 & 0xff, offset & 0xfff, data, size);
}

const struct device_ops pci_ecam_ops = { .name = "PCI ECAM", .read = ecam_read, .write = ecam_write };

// --- set-up ---

struct error *pci_host_init(struct pci_host *host, const struct pci_host_config *config)
{
	static const struct pci_device_ops bridge_ops = { .name = "PCI host bridge" };
	// Red Hat's generic host bridge, which no kernel has a quirk for.
	static const struct pci_ids ids = { .vendor = 0x1b36, .device = 0x0008, .class = 0x06 };

	*host = (struct pci_host){ .config = *config };
	pci_device_init(&host->bridge, &bridge_ops, NULL, &ids);
	host->bridge.host = host;
	host->slots[0] = &host->bridge;

	int e = pthread_mutex_init(&host->lock, NULL);

	return e ? error_create(ERROR_OS, "cannot create the PCI host's lock: %s", strerror(e)) : NULL;
}

void pci_host_deinit(struct pci_host *host)
{
	for (u32 i = 0; i < PCI_SLOTS * PCI_BARS; i++) {
		struct pci_device *pci = host->slots[i / PCI_BARS];

		if (pci && pci->bars[i % PCI_BARS].address)
			unmap_bar(host, &pci->bars[i % PCI_BARS]);
	}
	pthread_mutex_destroy(&host->lock);
}

struct error *pci_add(struct pci_host *host, u32 slot, struct pci_device *pci)
{
	if (slot >= PCI_SLOTS || host->slots[slot])
		return error_create(ERROR_INVALID, "%s: PCI slot %" PRIu32 " is %s", pci->ops->name, slot,
				    slot >= PCI_SLOTS ? "not one of 0 to 31" : "taken");
	pci->host = host;
	host->slots[slot] = pci;
	return NULL;
}

// The first address in the window behind all BARs that are in it, for a BAR of this size; 0: no room.
static u64 find_place(const struct pci_host *host, const struct pci_window *w, u64 size)
{
	u64 end = w->start;

	for (u32 i = 0; i < PCI_SLOTS * PCI_BARS; i++) {
		const struct pci_device *pci = host->slots[i / PCI_BARS];
		const struct pci_bar *bar = pci ? &pci->bars[i % PCI_BARS] : NULL;

		if (!bar || !bar->size)
			continue;

		u64 address = bar_register(bar);

		if (address >= w->start && address - w->start < w->size && address + bar->size > end)
			end = address + bar->size;
	}
	end = ALIGN_UP(end, size);
	return end >= w->start && end - w->start <= w->size && size <= w->size - (end - w->start) ? end : 0;
}

static struct error *assign_bar(struct pci_host *host, struct pci_bar *bar)
{
	u64 address = 0;

	for (u32 i = 0; i < PCI_WINDOWS && !address; i++)
		if (host->config.windows[i].size)
			address = find_place(host, &host->config.windows[i], bar->size);
	if (!address)
		return error_create(ERROR_INVALID, "%s: no PCI window has room for 0x%" PRIx64 " bytes",
				    bar->pci->ops->name, bar->size);
	address |= PCI_BASE_ADDRESS_MEM_TYPE_64;
	memcpy(bar->pci->config + PCI_BASE_ADDRESS_0 + 4 * bar->index, &address, sizeof(address));
	return NULL;
}

struct error *pci_assign_bars(struct pci_host *host)
{
	struct error *err = NULL;

	pthread_mutex_lock(&host->lock);
	for (u32 i = 0; i < PCI_SLOTS * PCI_BARS && !err; i++) {
		struct pci_device *pci = host->slots[i / PCI_BARS];
		struct pci_bar *bar = pci ? &pci->bars[i % PCI_BARS] : NULL;

		if (bar && bar->size && !bar_register(bar))
			err = assign_bar(host, bar);
	}
	pthread_mutex_unlock(&host->lock);
	return err;
}

// --- state ---

static u32 taken_slots(const struct pci_host *host)
{
	u32 taken = 0;

	for (u32 i = 0; i < PCI_SLOTS; i++)
		if (host->slots[i])
			taken |= 1u << i;
	return taken;
}

static void pci_save(void *device, struct buf *out)
{
	struct pci_host *host = device;

	pthread_mutex_lock(&host->lock);
	buf_put_u32(out, STATE_VERSION);
	buf_put_u32(out, host->address);
	buf_put_u8(out, host->reset_control);
	buf_put_u32(out, taken_slots(host));
	for (u32 i = 0; i < PCI_SLOTS; i++)
		if (host->slots[i])
			buf_put(out, host->slots[i]->config, PCI_CONFIG_SIZE);
	pthread_mutex_unlock(&host->lock);
}

// What the guest cannot write must be as it is here: the same devices with the same BARs and capabilities.
static struct error *check_config(const struct pci_device *pci, u32 slot, const u8 *config)
{
	for (u32 i = 0; i < PCI_CONFIG_SIZE; i++)
		if ((config[i] ^ pci->config[i]) & ~pci->writable[i])
			return error_create(ERROR_FORMAT,
					    "saved PCI slot %" PRIu32 " is not a %s: byte 0x%" PRIx32
					    " of its configuration is 0x%02x, not 0x%02x",
					    slot, pci->ops->name, i, config[i], pci->config[i]);
	return NULL;
}

static void apply_config(struct pci_device *pci, const u8 *config)
{
	memcpy(pci->config, config, PCI_CONFIG_SIZE);
	if (pci->msix)
		msix_set_control(pci->msix, get_u16(config + pci->msix_capability + PCI_MSIX_FLAGS));
}

static struct error *pci_load(void *device, struct reader *in)
{
	struct pci_host *host = device;
	u32 version = reader_get_u32(in);
	u32 address = reader_get_u32(in);
	u8 reset_control = reader_get_u8(in);
	u32 slots = reader_get_u32(in);
	const u8 *configs[PCI_SLOTS] = { NULL };

	for (u32 i = 0; i < PCI_SLOTS; i++)
		if (slots & 1u << i)
			configs[i] = reader_take(in, PCI_CONFIG_SIZE);

	struct error *err = state_check(in, "pci", version, STATE_VERSION);

	if (!err && slots != taken_slots(host))
		err = error_create(ERROR_FORMAT, "saved pci has devices in slots 0x%" PRIx32 ", not 0x%" PRIx32,
				   slots, taken_slots(host));
	if (!err && reset_control & ~RESET_STORED)
		err = error_create(ERROR_FORMAT, "saved pci has bits that no guest can set");
	for (u32 i = 0; i < PCI_SLOTS && !err; i++)
		if (configs[i])
			err = check_config(host->slots[i], i, configs[i]);
	if (err)
		return err;

	pthread_mutex_lock(&host->lock);
	host->address = address;
	host->reset_control = reset_control;
	for (u32 i = 0; i < PCI_SLOTS; i++)
		if (configs[i])
			apply_config(host->slots[i], configs[i]);
	map_bars(host);
	pthread_mutex_unlock(&host->lock);
	return NULL;
}

const struct device_state_ops pci_state_ops = { .name = "pci", .save = pci_save, .load = pci_load };
