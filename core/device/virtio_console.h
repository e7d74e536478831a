/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-console with three ports: 0 interactive (hvc0), 1 frames, 2 a byte relay.
 * Depends on device/virtio.h. All functions here but init, deinit, save and load are for one thread, the
 * one that has the queues' descriptors in its event loop; callbacks come on it, with no lock held.
 * Nothing is buffered here: a guest's bytes wait in its own ring until they are taken.
 */
#ifndef DEVICE_VIRTIO_CONSOLE_H
#define DEVICE_VIRTIO_CONSOLE_H

#include "device/virtio.h"

enum {
	CONSOLE_PORTS = 3,
	CONSOLE_PORT_TTY = 0,
	CONSOLE_PORT_FRAMES = 1,
	CONSOLE_PORT_RELAY = 2,
	CONSOLE_QUEUES = 2 * CONSOLE_PORTS + 2,
	CONSOLE_VECTORS = CONSOLE_QUEUES + 1, /* what the machine must provide in the irq_sink */
	CONSOLE_QUEUE_SIZE = 128,
	CONSOLE_INPUT_MAX = 32 << 10, /* most bytes given to one input() */
};

/* What the guest finds as the name below each of /sys/class/virtio-ports. */
#define CONSOLE_NAME_TTY "ktstr.tty"
#define CONSOLE_NAME_FRAMES "ktstr.tlv"
#define CONSOLE_NAME_RELAY "ktstr.relay"

struct console_port_ops {
	/*
	 * Bytes from the guest (a private copy). Returns how many were taken; fewer than size stops this port
	 * until virtio_console_resume(), and the rest comes again then. Port 0 must always take all: Linux
	 * spins with interrupts off until the host has taken what hvc0 prints. It may call anything here,
	 * and may run the event loop; its own port's input is not entered again meanwhile.
	 */
	size_t (*input)(void *ctx, const void *data, size_t size);
	/* The guest has given new buffers after virtio_console_write() took less than all. Optional. */
	void (*writable)(void *ctx);
	/*
	 * The guest opened or closed the port (a device reset closes it). Data travels apart from this: a
	 * first input() may come before open, a last one after the close. Optional.
	 */
	void (*opened)(void *ctx, bool open);
};

struct console_port {
	const struct console_port_ops *ops;
	void *ctx;
};

struct virtio_console {
	struct virtio virtio;
	/* The thread's own. */
	struct console_thread_state {
		struct console_port port;
		u8 *bounce; /* CONSOLE_INPUT_MAX bytes */
		bool serving; /* input() is on the stack */
		bool told_open; /* what opened() said last */
		u32 told_closes; /* closes that it has said */
	} ports[CONSOLE_PORTS];
	/* Under virtio.lock. */
	struct console_port_state {
		bool guest_open;
		bool stalled; /* input() has bytes that it has not taken */
		bool want_writable;
		u8 control; /* messages that are to be sent, as soon as the guest has buffers for them */
		u32 closes; /* times the guest closed the port */
		u64 taken; /* bytes of the chain at the head of the transmit queue that input() has had */
	} states[CONSOLE_PORTS];
	u64 bad_control; /* control messages that made no sense */
};

struct virtio_console_config {
	const struct guest_memory *memory;
	struct irq_sink irq; /* vectors 0 to CONSOLE_VECTORS - 1 */
	struct doorbell_sink doorbell; /* ops NULL: none */
	struct console_port ports[CONSOLE_PORTS];
};

/* Then pci_add(host, slot, &con->virtio.pci). */
MUST_CHECK struct error *virtio_console_init(struct virtio_console *con,
					     const struct virtio_console_config *config);
/* After pci_host_deinit(). */
void virtio_console_deinit(struct virtio_console *con);

/* Readable when virtio_console_serve(con, queue) has something to do. Queues 0 to CONSOLE_QUEUES - 1. */
int virtio_console_fd(const struct virtio_console *con, u32 queue);
/* Does a bounded piece of the queue's work; its descriptor is readable again if there is more. */
void virtio_console_serve(struct virtio_console *con, u32 queue);

/*
 * Bytes to the guest. Returns how many fitted into the buffers that it has given (0: none, or the port is
 * not open in the guest, which would throw them away); writable() says when to go on.
 */
size_t virtio_console_write(struct virtio_console *con, u32 port, const void *data, size_t size);
/* input() can take bytes again. They come from the event loop, not from within this call. */
void virtio_console_resume(struct virtio_console *con, u32 port);
bool virtio_console_is_open(struct virtio_console *con, u32 port);

/*
 * Load in a machine whose PCI state was loaded; virtio_replay() once vCPUs are ready for interrupts. Save not from
 * within input(): what it is being given would come again.
 */
extern const struct device_state_ops virtio_console_state_ops;

#endif
