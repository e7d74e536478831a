/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI: one bus with a host bridge at 00:00.0, configuration by ports 0xcf8/0xcfc and by ECAM, BARs.
 * Depends on device/bus.h, device/msix.h and device/power.h.
 * A BAR is decoded only inside the host's windows and where no other device is; otherwise it stays unmapped.
 */
#ifndef DEVICE_PCI_H
#define DEVICE_PCI_H

#include "device/bus.h"
#include "device/msix.h"
#include "device/power.h"

enum {
	PCI_PORT = 0xcf8,
	PCI_PORTS = 8, /* 0xcf8 address, 0xcf9 reset control (byte access), 0xcfc data */
	PCI_SLOTS = 32,
	PCI_CONFIG_SIZE = 256,
	PCI_ECAM_SIZE = 1 << 20, /* one bus */
	PCI_BARS = 6, /* registers; a 64-bit BAR takes two */
	PCI_WINDOWS = 2,
};

/*
 * What a function does with its BARs. All but bar_moved come on vCPU threads in parallel with no PCI lock
 * held; bar_moved and the config hooks come under it, so they must not call pci_* functions.
 */
struct pci_device_ops {
	const char *name;
	void (*bar_read)(void *device, u32 bar, u64 offset, void *data, u32 size);
	void (*bar_write)(void *device, u32 bar, u64 offset, const void *data, u32 size);
	/* The BAR is now decoded at address; 0: nowhere. Optional. */
	void (*bar_moved)(void *device, u32 bar, u64 address);
	/*
	 * Optional, for capabilities with a side effect: before a read of, after a write to, configuration
	 * bytes [offset, offset + size). config is the whole space, to be read and changed in place.
	 */
	void (*config_read)(void *device, u8 *config, u32 offset, u32 size);
	void (*config_write)(void *device, u8 *config, u32 offset, u32 size);
};

struct pci_bar {
	u64 size; /* a power of two, at least 4096; 0: no BAR */
	u64 address; /* where it is decoded; 0: nowhere */
	u64 refused; /* where the guest wants it, but it cannot be; 0: nowhere */
	struct pci_device *pci; /* the bus hands these back to us */
	u32 index;
};

/* One function of one device (function 0 of a slot). The owner embeds it and fills it before pci_add(). */
struct pci_device {
	const struct pci_device_ops *ops;
	void *device;
	struct msix *msix; /* NULL: none */
	u32 msix_capability; /* its offset in config */
	u32 capability_last; /* offset of the newest capability; 0: none */
	u32 capability_end; /* where the next capability goes */
	u8 config[PCI_CONFIG_SIZE];
	u8 writable[PCI_CONFIG_SIZE]; /* bits that the guest may change */
	struct pci_bar bars[PCI_BARS];
	struct pci_host *host;
};

struct pci_ids {
	u16 vendor, device, subsystem_vendor, subsystem;
	u8 revision, class, subclass, interface;
};

/* Guest-physical addresses BARs may have; never RAM, never another device's fixed place. */
struct pci_window {
	u64 start, size; /* size 0: no such window */
};

struct pci_host_config {
	struct bus *mmio;
	struct pci_window windows[PCI_WINDOWS]; /* the DSDT's _CRS says the same */
	struct power_sink power; /* for port 0xcf9 */
};

struct pci_host {
	struct pci_host_config config;
	pthread_mutex_t lock;
	u32 address; /* port 0xcf8 */
	u8 reset_control; /* port 0xcf9 */
	u64 bars_refused; /* times the guest put a BAR where it cannot be */
	struct pci_device bridge;
	struct pci_device *slots[PCI_SLOTS];
};

/* With the host bridge in slot 0. */
MUST_CHECK struct error *pci_host_init(struct pci_host *host, const struct pci_host_config *config);
/* Devices are the caller's; they are unmapped here. */
void pci_host_deinit(struct pci_host *host);

/* A type-0 header without BARs and capabilities. */
void pci_device_init(struct pci_device *pci, const struct pci_device_ops *ops, void *device,
		     const struct pci_ids *ids);
/* A 64-bit memory BAR in registers index and index + 1. ERROR_INVALID for a size or an index that cannot be. */
MUST_CHECK struct error *pci_add_bar(struct pci_device *pci, u32 index, u64 size);
/*
 * A capability of size bytes (all of it, with id and next pointer, which this fills); writable, when
 * not NULL, has the bits that the guest may change. Its offset through ret.
 */
MUST_CHECK struct error *pci_add_capability(struct pci_device *pci, const void *capability, u32 size,
					    const void *writable, u32 *ret);
/* An MSI-X capability for msix, table and pending bits at these offsets of one BAR. */
MUST_CHECK struct error *pci_add_msix(struct pci_device *pci, struct msix *msix, u32 bar, u32 table_offset,
				      u32 pending_offset);

/* Slots 1 to 31; before vCPUs run. ERROR_INVALID when it is taken. */
MUST_CHECK struct error *pci_add(struct pci_host *host, u32 slot, struct pci_device *pci);
/*
 * Gives every BAR that has none an address, as firmware would, from the windows in order; memory decoding
 * stays off until the guest turns it on. ERROR_INVALID when they do not fit.
 */
MUST_CHECK struct error *pci_assign_bars(struct pci_host *host);

extern const struct device_ops pci_port_ops; /* a struct pci_host; on the port bus at PCI_PORT */
extern const struct device_ops pci_ecam_ops; /* a struct pci_host; on the MMIO bus, PCI_ECAM_SIZE long */
/* Configuration spaces of all slots; load maps the BARs again. Load it before the devices in the slots. */
extern const struct device_state_ops pci_state_ops;

#endif
