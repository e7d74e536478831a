// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/ioapic.h"

#include <string.h>

#include "device/state.h"

enum {
	// Offsets of MMIO.
	SELECT = 0x00,
	WINDOW = 0x10,
	EOI = 0x40,

	// Registers behind the window.
	REGISTER_ID = 0,
	REGISTER_VERSION = 1,
	REGISTER_ARBITRATION = 2,
	REGISTER_ENTRIES = 0x10, // two a pin

	VERSION = 0x20, // has an EOI register
	ID_SHIFT = 24,
	ID_MASK = 0xf,
	STATE_VERSION = 1,

	// Bits of an entry's low half.
	ENTRY_VECTOR = 0xff,
	ENTRY_DELIVERY_SHIFT = 8,
	ENTRY_DELIVERY = 7 << ENTRY_DELIVERY_SHIFT,
	ENTRY_LOGICAL = 1 << 11,
	ENTRY_BUSY = 1 << 12, // delivery status: never set, delivery takes no time
	ENTRY_REMOTE_IRR = 1 << 14,
	ENTRY_LEVEL = 1 << 15,
	ENTRY_MASKED = 1 << 16,

	ENTRY_LOW_WRITABLE = 0x1ffff & ~(ENTRY_BUSY | ENTRY_REMOTE_IRR),
	// Bits of its high half: destination bits 8 to 14, then 0 to 7 (KVM_FEATURE_MSI_EXT_DEST_ID).
	ENTRY_EXT_SHIFT = 49 - 32,
	ENTRY_DEST_SHIFT = 56 - 32,
};

static const u32 entry_high_writable = 0x7fu << ENTRY_EXT_SHIFT | 0xffu << ENTRY_DEST_SHIFT;

struct error *ioapic_init(struct ioapic *ioapic, u8 id, struct ioapic_sink sink)
{
	*ioapic = (struct ioapic){ .sink = sink, .id = id & ID_MASK };
	for (u32 i = 0; i < IOAPIC_PINS; i++)
		ioapic->entries[i] = ENTRY_MASKED;

	int e = pthread_mutex_init(&ioapic->lock, NULL);

	return e ? error_create(ERROR_OS, "cannot create the IOAPIC's lock: %s", strerror(e)) : NULL;
}

void ioapic_deinit(struct ioapic *ioapic)
{
	pthread_mutex_destroy(&ioapic->lock);
}

static u64 entry_address(u64 entry)
{
	u32 high = entry >> 32;
	u64 address = MSI_ADDRESS_BASE;

	address |= (u64)(high >> ENTRY_DEST_SHIFT) << MSI_ADDRESS_DEST_SHIFT;
	address |= (high >> ENTRY_EXT_SHIFT & 0x7f) << MSI_ADDRESS_EXT_SHIFT;
	return entry & ENTRY_LOGICAL ? address | MSI_ADDRESS_LOGICAL : address;
}

static u32 entry_data(u64 entry)
{
	u32 data = (entry & ENTRY_VECTOR) | (entry & ENTRY_DELIVERY) | MSI_DATA_ASSERT;

	return entry & ENTRY_LEVEL ? data | MSI_DATA_LEVEL : data;
}

static void deliver(struct ioapic *ioapic, u32 pin)
{
	u64 entry = ioapic->entries[pin];

	if (entry & ENTRY_LEVEL)
		ioapic->entries[pin] |= ENTRY_REMOTE_IRR;
	ioapic->sink.ops->deliver(ioapic->sink.ctx, entry_address(entry), entry_data(entry));
}

// A level interrupt is due: its line is high, and no CPU is handling an earlier one.
static void deliver_level(struct ioapic *ioapic, u32 pin)
{
	u64 entry = ioapic->entries[pin];

	if (ioapic->lines & 1u << pin && entry & ENTRY_LEVEL && !(entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)))
		deliver(ioapic, pin);
}

static void tell_route(struct ioapic *ioapic, u32 pin)
{
	u64 entry = ioapic->entries[pin];

	ioapic->sink.ops->route(ioapic->sink.ctx, pin, entry_address(entry), entry_data(entry),
				entry & ENTRY_MASKED);
}

static void write_entry(struct ioapic *ioapic, u32 reg, u32 value)
{
	u32 pin = (reg - REGISTER_ENTRIES) / 2;
	u64 old = ioapic->entries[pin];
	u64 entry;

	if (reg & 1)
		entry = (u32)old | (u64)(value & entry_high_writable) << 32;
	else
		entry = (old & ~(u64)ENTRY_LOW_WRITABLE) | (value & ENTRY_LOW_WRITABLE);
	// Kernels clear a stuck remote IRR by making the pin edge-triggered for a moment.
	if (!(entry & ENTRY_LEVEL))
		entry &= ~(u64)ENTRY_REMOTE_IRR;
	if (entry == old)
		return;
	ioapic->entries[pin] = entry;
	tell_route(ioapic, pin);
	deliver_level(ioapic, pin);
}

static u32 read_register(struct ioapic *ioapic)
{
	u32 reg = ioapic->select;

	if (reg == REGISTER_ID || reg == REGISTER_ARBITRATION)
		return (u32)ioapic->id << ID_SHIFT;
	if (reg == REGISTER_VERSION)
		return (IOAPIC_PINS - 1) << 16 | VERSION;
	if (reg < REGISTER_ENTRIES || reg >= REGISTER_ENTRIES + 2 * IOAPIC_PINS)
		return 0;

	u64 entry = ioapic->entries[(reg - REGISTER_ENTRIES) / 2];

	return reg & 1 ? entry >> 32 : entry;
}

static void write_register(struct ioapic *ioapic, u32 value)
{
	u32 reg = ioapic->select;

	if (reg == REGISTER_ID)
		ioapic->id = value >> ID_SHIFT & ID_MASK;
	else if (reg >= REGISTER_ENTRIES && reg < REGISTER_ENTRIES + 2 * IOAPIC_PINS)
		write_entry(ioapic, reg, value);
}

static void end_interrupt(struct ioapic *ioapic, u8 vector)
{
	for (u32 pin = 0; pin < IOAPIC_PINS; pin++) {
		if (!(ioapic->entries[pin] & ENTRY_REMOTE_IRR) ||
		    (ioapic->entries[pin] & ENTRY_VECTOR) != vector)
			continue;
		ioapic->entries[pin] &= ~(u64)ENTRY_REMOTE_IRR;
		deliver_level(ioapic, pin);
	}
}

void ioapic_set_level(struct ioapic *ioapic, u32 pin, bool level)
{
	if (pin >= IOAPIC_PINS)
		return;
	pthread_mutex_lock(&ioapic->lock);

	bool was = ioapic->lines & 1u << pin;
	u64 entry = ioapic->entries[pin];

	if (level)
		ioapic->lines |= 1u << pin;
	else
		ioapic->lines &= ~(1u << pin);
	// An edge on a masked pin is gone, as the data sheet has it.
	if (entry & ENTRY_LEVEL)
		deliver_level(ioapic, pin);
	else if (level && !was && !(entry & ENTRY_MASKED))
		deliver(ioapic, pin);
	pthread_mutex_unlock(&ioapic->lock);
}

void ioapic_eoi(struct ioapic *ioapic, u8 vector)
{
	pthread_mutex_lock(&ioapic->lock);
	end_interrupt(ioapic, vector);
	pthread_mutex_unlock(&ioapic->lock);
}

static void ioapic_read(void *device, u64 offset, void *data, u32 size)
{
	struct ioapic *ioapic = device;
	u32 value = 0;

	pthread_mutex_lock(&ioapic->lock);
	if (offset == SELECT)
		value = ioapic->select;
	else if (offset == WINDOW)
		value = read_register(ioapic);
	pthread_mutex_unlock(&ioapic->lock);
	memset(data, 0, size);
	memcpy(data, &value, size < sizeof(value) ? size : sizeof(value));
}

static void ioapic_write(void *device, u64 offset, const void *data, u32 size)
{
	struct ioapic *ioapic = device;
	u32 value = 0;

	// Registers are 32 bits wide; narrower writes are taken as zero-extended, as hardware may.
	memcpy(&value, data, size < sizeof(value) ? size : sizeof(value));
	pthread_mutex_lock(&ioapic->lock);
	if (offset == SELECT)
		ioapic->select = value;
	else if (offset == WINDOW)
		write_register(ioapic, value);
	else if (offset == EOI)
		end_interrupt(ioapic, value);
	pthread_mutex_unlock(&ioapic->lock);
}

const struct device_ops ioapic_ops = { .name = "ioapic", .read = ioapic_read, .write = ioapic_write };

static void ioapic_save(void *device, struct buf *out)
{
	struct ioapic *ioapic = device;

	pthread_mutex_lock(&ioapic->lock);
	buf_put_u32(out, STATE_VERSION);
	buf_put_u8(out, ioapic->id);
	buf_put_u8(out, ioapic->select);
	buf_put_u32(out, ioapic->lines);
	for (u32 i = 0; i < IOAPIC_PINS; i++)
		buf_put_u64(out, ioapic->entries[i]);
	pthread_mutex_unlock(&ioapic->lock);
}

static bool entry_can_be(u64 entry)
{
	u64 possible = (u64)entry_high_writable << 32 | ENTRY_LOW_WRITABLE | ENTRY_REMOTE_IRR;

	return !(entry & ~possible) && (entry & ENTRY_LEVEL || !(entry & ENTRY_REMOTE_IRR));
}

static struct error *ioapic_load(void *device, struct reader *in)
{
	struct ioapic *ioapic = device;
	u32 version = reader_get_u32(in);
	u8 id = reader_get_u8(in);
	u8 select = reader_get_u8(in);
	u32 lines = reader_get_u32(in);
	u64 entries[IOAPIC_PINS];
	bool ok = id <= ID_MASK && !(lines >> IOAPIC_PINS);

	for (u32 i = 0; i < IOAPIC_PINS; i++) {
		entries[i] = reader_get_u64(in);
		ok = ok && entry_can_be(entries[i]);
	}

	struct error *err = state_check(in, "ioapic", version, STATE_VERSION);

	if (err)
		return err;
	if (!ok)
		return error_create(ERROR_FORMAT, "saved ioapic has values that no guest can set");

	pthread_mutex_lock(&ioapic->lock);
	ioapic->id = id;
	ioapic->select = select;
	ioapic->lines = lines;
	memcpy(ioapic->entries, entries, sizeof(entries));
	for (u32 i = 0; i < IOAPIC_PINS; i++)
		tell_route(ioapic, i);
	pthread_mutex_unlock(&ioapic->lock);
	return NULL;
}

const struct device_state_ops ioapic_state_ops = {
	.name = "ioapic",
	.save = ioapic_save,
	.load = ioapic_load,
};
