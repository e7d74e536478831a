// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/bus.h"

#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"

struct error *bus_init(struct bus *bus)
{
	*bus = (struct bus){ 0 };

	int e = pthread_rwlock_init(&bus->lock, NULL);

	return e ? error_create(ERROR_OS, "cannot create a bus's lock: %s", strerror(e)) : NULL;
}

void bus_deinit(struct bus *bus)
{
	pthread_rwlock_destroy(&bus->lock);
	free(bus->ranges);
	*bus = (struct bus){ 0 };
}

// Index of the first range that ends above addr; bus->count when there is none.
static u32 find_range(const struct bus *bus, u64 addr)
{
	u32 low = 0, high = bus->count;

	while (low < high) {
		u32 middle = (low + high) / 2;

		if (bus->ranges[middle].start + (bus->ranges[middle].size - 1) < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct error *insert_range(struct bus *bus, const struct bus_range *range)
{
	u32 i = find_range(bus, range->start);
	u64 last = range->start + (range->size - 1);

	if (i < bus->count && bus->ranges[i].start <= last)
		return error_create(ERROR_INVALID,
				    "%s at 0x%" PRIx64 " to 0x%" PRIx64 " overlaps %s at 0x%" PRIx64,
				    range->ops->name, range->start, last, bus->ranges[i].ops->name,
				    bus->ranges[i].start);
	if (bus->count == bus->capacity) {
		u32 capacity = bus->capacity ? 2 * bus->capacity : 16;
		struct bus_range *ranges = realloc(bus->ranges, capacity * sizeof(*ranges));

		if (!ranges)
			return error_no_memory();
		bus->ranges = ranges;
		bus->capacity = capacity;
	}
	memmove(&bus->ranges[i + 1], &bus->ranges[i], (bus->count - i) * sizeof(*range));
	bus->ranges[i] = *range;
	bus->count++;
	return NULL;
}

struct error *bus_add(struct bus *bus, u64 start, u64 size, const struct device_ops *ops, void *device)
{
	struct bus_range range = { start, size, ops, device };

	if (!size || start + (size - 1) < start)
		return error_create(ERROR_INVALID, "%s: no range has 0x%" PRIx64 " bytes from 0x%" PRIx64,
				    ops->name, size, start);
	pthread_rwlock_wrlock(&bus->lock);

	struct error *err = insert_range(bus, &range);

	pthread_rwlock_unlock(&bus->lock);
	return err;
}

bool bus_remove(struct bus *bus, u64 start)
{
	pthread_rwlock_wrlock(&bus->lock);

	u32 i = find_range(bus, start);
	bool found = i < bus->count && bus->ranges[i].start == start;

	if (found) {
		bus->count--;
		memmove(&bus->ranges[i], &bus->ranges[i + 1], (bus->count - i) * sizeof(*bus->ranges));
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

/*
 * The range that holds all of [addr, addr + size). A copy: the device is called without the lock, since
 * its answer to a write may be to move itself (a BAR) on this very bus. Devices outlive the vCPUs.
 */
static bool look_up(struct bus *bus, u64 addr, u32 size, struct bus_range *ret)
{
	pthread_rwlock_rdlock(&bus->lock);

	u32 i = find_range(bus, addr);
	bool found = i < bus->count && addr >= bus->ranges[i].start &&
		     size <= bus->ranges[i].size - (addr - bus->ranges[i].start);

	if (found)
		*ret = bus->ranges[i];
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

bool bus_read(struct bus *bus, u64 addr, void *data, u32 size)
{
	struct bus_range range;

	if (!look_up(bus, addr, size, &range)) {
		memset(data, 0xff, size);
		return false;
	}
	range.ops->read(range.device, addr - range.start, data, size);
	return true;
}

bool bus_write(struct bus *bus, u64 addr, const void *data, u32 size)
{
	struct bus_range range;

	if (!look_up(bus, addr, size, &range))
		return false;
	range.ops->write(range.device, addr - range.start, data, size);
	return true;
}
