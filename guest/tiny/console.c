// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/console.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include "tiny/cpu.h"
#include "tiny/pci.h"
#include "tiny/print.h"
#include "tiny/trap.h"
#include "x86/layout.h"

enum {
	VENDOR_VIRTIO = 0x1af4,
	DEVICE_CONSOLE = 0x1043,

	/* A port has two queues, the host's and ours; the control queues come after port 0's. */
	QUEUE_CONTROL_IN = 2,
	QUEUE_CONTROL_OUT = 3,
	QUEUE_FRAMES_IN = 4,
	QUEUE_FRAMES_OUT = 5,
	FRAMES_PORT = 1,

	RING_SIZE = 16,
	BUFFER_SIZE = 4096,
	CONTROL_SIZE = 64, /* a message with a port's name */
};

/* A split ring with a buffer for each descriptor: descriptor i always is buffer i. */
struct queue {
	struct vring_desc desc[RING_SIZE] __attribute__((aligned(16)));
	struct {
		u16 flags, index, ring[RING_SIZE];
	} avail __attribute__((aligned(4)));
	struct {
		u16 flags, index;
		struct vring_used_elem ring[RING_SIZE];
	} used __attribute__((aligned(4)));
	u64 notify; /* where to write the queue's number; 0: it is not set up */
	u16 number;
	u16 taken; /* used entries that we have looked at */
	u8 *buffers;
	u32 buffer_size;
};

static struct {
	u64 common, notify;
	u32 notify_multiplier;
	u64 vectors; /* the MSI-X table */
	u32 vector_count;
	struct queue control_in, control_out, frames_in, frames_out;
	struct frame_reader reader;
	u32 input_read; /* bytes of the first used input buffer that the reader has had */
} con;

static u8 control_in_buffers[RING_SIZE * CONTROL_SIZE], control_out_buffers[RING_SIZE * CONTROL_SIZE];
static u8 in_buffers[RING_SIZE * BUFFER_SIZE], out_buffers[RING_SIZE * BUFFER_SIZE];
static u8 reader_buffer[2 * BUFFER_SIZE];

static u16 used_index(const struct queue *q)
{
	return __atomic_load_n(&q->used.index, __ATOMIC_ACQUIRE);
}

/* Gives memory to the device as descriptor i. */
static void queue_give(struct queue *q, u16 i, const void *data, u32 size, u16 flags)
{
	q->desc[i] = (struct vring_desc){ .addr = (uintptr_t)data, .len = size, .flags = flags };
	q->avail.ring[q->avail.index % RING_SIZE] = i;
	__atomic_store_n(&q->avail.index, (u16)(q->avail.index + 1), __ATOMIC_SEQ_CST);
}

static void queue_notify(const struct queue *q)
{
	// The index must be out before we look whether the device wants to know of it.
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!(*(volatile u16 *)&q->used.flags & VRING_USED_F_NO_NOTIFY))
		write16(q->notify, q->number);
}

static bool queue_has_used(const struct queue *q, u16 index)
{
	return (s16)(used_index(q) - index) >= 0;
}

/* Waits until the device has used buffer number index - 1; interrupts are asked for only meanwhile. */
static void queue_wait_used(struct queue *q, u16 index)
{
	if (queue_has_used(q, index))
		return;
	__atomic_store_n(&q->avail.flags, 0, __ATOMIC_SEQ_CST);
	while (!queue_has_used(q, index))
		wait_for_interrupt();
	q->avail.flags = VRING_AVAIL_F_NO_INTERRUPT;
}

static void queue_set_up(struct queue *q, u16 number, u8 *buffers, u32 buffer_size)
{
	q->number = number;
	q->buffers = buffers;
	q->buffer_size = buffer_size;
	q->avail.flags = VRING_AVAIL_F_NO_INTERRUPT;
	write16(con.common + VIRTIO_PCI_COMMON_Q_SELECT, number);
	write16(con.common + VIRTIO_PCI_COMMON_Q_SIZE, RING_SIZE);
	write16(con.common + VIRTIO_PCI_COMMON_Q_MSIX, 0);
	write32(con.common + VIRTIO_PCI_COMMON_Q_DESCLO, (u32)(uintptr_t)q->desc);
	write32(con.common + VIRTIO_PCI_COMMON_Q_DESCHI, 0);
	write32(con.common + VIRTIO_PCI_COMMON_Q_AVAILLO, (u32)(uintptr_t)&q->avail);
	write32(con.common + VIRTIO_PCI_COMMON_Q_AVAILHI, 0);
	write32(con.common + VIRTIO_PCI_COMMON_Q_USEDLO, (u32)(uintptr_t)&q->used);
	write32(con.common + VIRTIO_PCI_COMMON_Q_USEDHI, 0);
	q->notify = con.notify + read16(con.common + VIRTIO_PCI_COMMON_Q_NOFF) * con.notify_multiplier;
	write16(con.common + VIRTIO_PCI_COMMON_Q_ENABLE, 1);
}

static u8 *queue_buffer(const struct queue *q, u32 i)
{
	return q->buffers + i * q->buffer_size;
}

static void queue_give_for_input(struct queue *q, u16 i)
{
	queue_give(q, i, queue_buffer(q, i), q->buffer_size, VRING_DESC_F_WRITE);
}

static void queue_fill_for_input(struct queue *q)
{
	for (u16 i = 0; i < RING_SIZE; i++)
		queue_give_for_input(q, i);
}

/* The next output descriptor, once the device is done with what was in it; it uses them in order. */
static u16 queue_next_output(struct queue *q)
{
	queue_wait_used(q, (u16)(q->avail.index - RING_SIZE + 1));
	return q->avail.index % RING_SIZE;
}

static void find_registers(u32 slot)
{
	for (u32 at = pci_capability(slot, PCI_CAP_ID_VNDR, 0); at; at = pci_capability(slot, PCI_CAP_ID_VNDR, at)) {
		u8 type = pci_read8(slot, at + offsetof(struct virtio_pci_cap, cfg_type));
		u8 bar = pci_read8(slot, at + offsetof(struct virtio_pci_cap, bar));
		u32 offset = pci_read32(slot, at + offsetof(struct virtio_pci_cap, offset));

		if (type == VIRTIO_PCI_CAP_COMMON_CFG && !con.common) {
			con.common = pci_bar(slot, bar) + offset;
		} else if (type == VIRTIO_PCI_CAP_NOTIFY_CFG && !con.notify) {
			con.notify = pci_bar(slot, bar) + offset;
			con.notify_multiplier = pci_read32(slot, at + sizeof(struct virtio_pci_cap));
		}
	}
}

/* One vector for everything, to this CPU. */
static bool set_up_msix(u32 slot)
{
	u32 at = pci_capability(slot, PCI_CAP_ID_MSIX, 0);

	if (!at)
		return false;

	u32 table = pci_read32(slot, at + PCI_MSIX_TABLE);
	u64 entry = pci_bar(slot, table & PCI_MSIX_TABLE_BIR) + (table & PCI_MSIX_TABLE_OFFSET);

	con.vectors = entry;
	con.vector_count = (pci_read32(slot, at) >> 16 & PCI_MSIX_FLAGS_QSIZE) + 1;
	pci_write16(slot, at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);
	write32(entry + PCI_MSIX_ENTRY_LOWER_ADDR, (u32)LAYOUT_LAPIC_GPA | (apic_id() & 0xff) << 12);
	write32(entry + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
	write32(entry + PCI_MSIX_ENTRY_DATA, VECTOR_DEVICE);
	write32(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
	return true;
}

static void add_status(u8 bit)
{
	write8(con.common + VIRTIO_PCI_COMMON_STATUS, read8(con.common + VIRTIO_PCI_COMMON_STATUS) | bit);
}

static bool negotiate(void)
{
	write8(con.common + VIRTIO_PCI_COMMON_STATUS, 0);
	add_status(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	write32(con.common + VIRTIO_PCI_COMMON_GFSELECT, 0);
	write32(con.common + VIRTIO_PCI_COMMON_GF, 1 << VIRTIO_CONSOLE_F_MULTIPORT);
	write32(con.common + VIRTIO_PCI_COMMON_GFSELECT, 1);
	write32(con.common + VIRTIO_PCI_COMMON_GF, 1 << (VIRTIO_F_VERSION_1 - 32));
	add_status(VIRTIO_CONFIG_S_FEATURES_OK);
	return read8(con.common + VIRTIO_PCI_COMMON_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void control_send(u32 port, u16 event, u16 value)
{
	struct queue *q = &con.control_out;
	const struct virtio_console_control message = { .id = port, .event = event, .value = value };
	u16 i = queue_next_output(q);

	memcpy(queue_buffer(q, i), &message, sizeof(message));
	queue_give(q, i, queue_buffer(q, i), sizeof(message), 0);
	queue_notify(q);
}

/* Answers the host's messages until it has opened its end of port 1. */
static void shake_hands(void)
{
	struct queue *q = &con.control_in;
	bool opened = false;

	control_send(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	while (!opened) {
		queue_wait_used(q, (u16)(q->taken + 1));

		const struct vring_used_elem *used = &q->used.ring[q->taken++ % RING_SIZE];
		const struct virtio_console_control *message =
			(const void *)queue_buffer(q, used->id);

		if (message->event == VIRTIO_CONSOLE_PORT_ADD) {
			control_send(message->id, VIRTIO_CONSOLE_PORT_READY, 1);
		} else if (message->event == VIRTIO_CONSOLE_PORT_OPEN && message->id == FRAMES_PORT) {
			control_send(FRAMES_PORT, VIRTIO_CONSOLE_PORT_OPEN, 1);
			opened = true;
		}
		queue_give_for_input(q, (u16)used->id);
	}
	queue_notify(q);
}

bool console_open(void)
{
	s32 slot = pci_find(VENDOR_VIRTIO, DEVICE_CONSOLE);

	if (con.common)
		return true;
	if (slot < 0)
		return false;
	find_registers((u32)slot);
	if (!con.common || !con.notify)
		return false;
	pci_write16((u32)slot, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	if (!set_up_msix((u32)slot) || !negotiate())
		return false;
	queue_set_up(&con.control_in, QUEUE_CONTROL_IN, control_in_buffers, CONTROL_SIZE);
	queue_set_up(&con.control_out, QUEUE_CONTROL_OUT, control_out_buffers, CONTROL_SIZE);
	queue_set_up(&con.frames_in, QUEUE_FRAMES_IN, in_buffers, BUFFER_SIZE);
	queue_set_up(&con.frames_out, QUEUE_FRAMES_OUT, out_buffers, BUFFER_SIZE);
	queue_fill_for_input(&con.control_in);
	queue_fill_for_input(&con.frames_in);
	frame_reader_init(&con.reader, reader_buffer, sizeof(reader_buffer));
	add_status(VIRTIO_CONFIG_S_DRIVER_OK);
	queue_notify(&con.control_in);
	shake_hands();
	queue_notify(&con.frames_in);
	return true;
}

u64 console_vectors(u32 *count)
{
	*count = con.vector_count;
	return con.vectors;
}

void console_send_in_place(const void *data, u32 length)
{
	struct queue *q = &con.frames_out;

	queue_give(q, queue_next_output(q), data, length, 0);
	queue_notify(q);
}

void console_send(u32 type, const void *payload, u32 length)
{
	u8 *buffer = queue_buffer(&con.frames_out, queue_next_output(&con.frames_out));

	console_send_in_place(buffer, (u32)frame_encode(buffer, BUFFER_SIZE, type, payload, length));
}

void console_send_raw(const void *data, u32 length)
{
	u8 *buffer = queue_buffer(&con.frames_out, queue_next_output(&con.frames_out));

	memcpy(buffer, data, length);
	console_send_in_place(buffer, length);
}

void console_flush(void)
{
	queue_wait_used(&con.frames_out, con.frames_out.avail.index);
}

/* Feeds the reader from the host's buffers; waits for one when all have been read. */
static void take_input(void)
{
	struct queue *q = &con.frames_in;

	queue_wait_used(q, (u16)(q->taken + 1));

	const struct vring_used_elem *used = &q->used.ring[q->taken % RING_SIZE];
	const u8 *data = queue_buffer(q, used->id);
	u8 *space;
	size_t n = frame_reader_space(&con.reader, &space);

	if (n > used->len - con.input_read)
		n = used->len - con.input_read;
	memcpy(space, data + con.input_read, n);
	frame_reader_advance(&con.reader, n);
	con.input_read += (u32)n;
	if (con.input_read < used->len)
		return;
	con.input_read = 0;
	q->taken++;
	queue_give_for_input(q, (u16)used->id);
	queue_notify(q);
}

struct frame console_receive(void)
{
	struct frame frame;

	while (!frame_reader_next(&con.reader, &frame))
		take_input();
	return frame;
}
