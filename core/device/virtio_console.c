// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/virtio_console.h"

#include <linux/virtio_ids.h>
#include <string.h>

#include "base/cleanup.h"
#include "device/state.h"

enum {
	CONTROL_RECEIVE = 2, // host to guest, as all "receive" here: the guest's view
	CONTROL_TRANSMIT = 3,

	FEATURE_MULTIPORT = 1,

	// Control messages.
	DEVICE_READY = 0,
	PORT_ADD = 1,
	PORT_READY = 3,
	CONSOLE_PORT = 4,
	PORT_OPEN = 6,
	PORT_NAME = 7,

	NAME_MAX_SIZE = 16,
	STATE_VERSION = 1,
};

// <linux/virtio_console.h> has both, but its struct virtio_console_config is the guest's.
struct control {
	u32 id; // of the port
	u16 event, value;
};

struct guest_config {
	u16 columns, rows;
	u32 max_ports;
	u32 emergency_write;
};

// In the order they go out.
static const u16 control_order[] = { PORT_ADD, PORT_NAME, CONSOLE_PORT, PORT_OPEN };

static const char *const port_names[CONSOLE_PORTS] = {
	[CONSOLE_PORT_TTY] = CONSOLE_NAME_TTY,
	[CONSOLE_PORT_FRAMES] = CONSOLE_NAME_FRAMES,
	[CONSOLE_PORT_RELAY] = CONSOLE_NAME_RELAY,
};

static u32 receive_queue(u32 port)
{
	return port ? 2 * port + 2 : 0;
}

static u32 transmit_queue(u32 port)
{
	return receive_queue(port) + 1;
}

static struct virtqueue *ring_of(struct virtio_console *con, u32 queue)
{
	return &con->virtio.queues[queue].ring;
}

// --- the device type's part; under the lock ---

static void config_read(void *device, u32 offset, void *data, u32 size)
{
	const struct guest_config config = { .max_ports = CONSOLE_PORTS };

	memcpy(data, (const u8 *)&config + offset, size);
}

static void set_guest_open(struct virtio_console *con, u32 port, bool open)
{
	struct console_port_state *state = &con->states[port];

	if (state->guest_open && !open)
		state->closes++;
	state->guest_open = open;
	if (open && state->want_writable)
		virtio_kick(&con->virtio, receive_queue(port));
}

static void console_reset(void *device)
{
	struct virtio_console *con = device;

	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		set_guest_open(con, port, false);
		con->states[port].stalled = false;
		con->states[port].control = 0;
		con->states[port].taken = 0;
	}
	// This may be a vCPU's thread: opened() is said on the other one.
	virtio_kick(&con->virtio, CONTROL_TRANSMIT);
}

static bool next_chain(struct virtio_console *con, u32 queue, struct virtqueue_chain *chain);

/* Bytes of the guest wait for input(), or input() is having them. */
static bool console_busy(void *device)
{
	struct virtio_console *con = device;
	struct virtqueue_chain chain;
	bool busy = false;

	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		if (!virtio_is_live(&con->virtio))
			return false;
		if (con->states[port].stalled) {
			busy = true;
		} else if (next_chain(con, transmit_queue(port), &chain)) {
			virtio_kick(&con->virtio, transmit_queue(port));
			busy = true;
		}
	}
	return busy;
}

static const struct virtio_ops console_ops = {
	.name = "virtio-console",
	.config_read = config_read,
	.reset = console_reset,
	.busy = console_busy,
};

struct error *virtio_console_init(struct virtio_console *con, const struct virtio_console_config *config)
{
	const struct virtio_config virtio = {
		.ops = &console_ops,
		.device = con,
		.type = VIRTIO_ID_CONSOLE,
		.class = 0x07, // communication controller, other
		.subclass = 0x80,
		.features = 1 << FEATURE_MULTIPORT,
		.queues = CONSOLE_QUEUES,
		.queue_size = CONSOLE_QUEUE_SIZE,
		.config_size = sizeof(struct guest_config),
		.memory = config->memory,
		.irq = config->irq,
		.doorbell = config->doorbell,
	};

	*con = (struct virtio_console){ 0 };

	struct error *err = virtio_init(&con->virtio, &virtio);

	if (err)
		return err;
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		con->ports[port].port = config->ports[port];
		con->ports[port].bounce = malloc(CONSOLE_INPUT_MAX);
		if (!con->ports[port].bounce) {
			virtio_console_deinit(con);
			return error_no_memory();
		}
	}
	return NULL;
}

void virtio_console_deinit(struct virtio_console *con)
{
	for (u32 port = 0; port < CONSOLE_PORTS; port++)
		free(con->ports[port].bounce);
	virtio_deinit(&con->virtio);
}

int virtio_console_fd(const struct virtio_console *con, u32 queue)
{
	return con->virtio.queues[queue].kick_fd;
}

// --- control messages; under the lock ---

// Without MULTIPORT there is port 0 alone, and nothing that could open or close it.
static bool is_open(struct virtio_console *con, u32 port)
{
	if (!virtio_is_live(&con->virtio))
		return false;
	if (!virtio_has_feature(&con->virtio, FEATURE_MULTIPORT))
		return port == CONSOLE_PORT_TTY;
	return con->states[port].guest_open;
}

// The next chain of a queue. When there is none, a notification will tell of the next one.
static bool next_chain(struct virtio_console *con, u32 queue, struct virtqueue_chain *chain)
{
	struct virtqueue *ring = ring_of(con, queue);
	bool found = false;

	if (!virtio_is_live(&con->virtio))
		return false;
	do {
		enum virtqueue_fault fault = virtqueue_peek(ring, chain, &found);

		if (fault) {
			virtio_fault(&con->virtio, queue, fault);
			return false;
		}
	} while (!found && virtqueue_enable_notify(ring));
	return found;
}

static void ask(struct virtio_console *con, u32 port, u16 event)
{
	for (u32 i = 0; i < ARRAY_SIZE(control_order); i++)
		if (control_order[i] == event)
			con->states[port].control |= 1 << i;
}

static void take_control(struct virtio_console *con, const struct control *message)
{
	u32 port = message->id;

	if (message->event == DEVICE_READY && message->value == 1) {
		for (u32 i = 0; i < CONSOLE_PORTS; i++)
			ask(con, i, PORT_ADD);
	} else if (message->event == PORT_READY && message->value == 1 && port < CONSOLE_PORTS) {
		ask(con, port, PORT_NAME);
		if (port == CONSOLE_PORT_TTY)
			ask(con, port, CONSOLE_PORT);
		ask(con, port, PORT_OPEN);
	} else if (message->event == PORT_OPEN && port < CONSOLE_PORTS) {
		set_guest_open(con, port, message->value);
	} else {
		con->bad_control++;
	}
}

static bool send_control(struct virtio_console *con, u32 port, u16 event)
{
	struct {
		struct control control;
		char name[NAME_MAX_SIZE];
	} message = { .control = { .id = port, .event = event, .value = 1 } };
	size_t size = sizeof(message.control);
	struct virtqueue_chain chain;

	if (!next_chain(con, CONTROL_RECEIVE, &chain))
		return false;
	if (event == PORT_NAME) {
		// Without a NUL: the length says where it ends.
		size_t length = strlen(port_names[port]);

		memcpy(message.name, port_names[port], length);
		size += length;
	}

	size_t n = virtqueue_copy_to(&chain, 0, &message, size);

	// A guest with buffers too small for a message goes without it.
	if (n < size)
		con->bad_control++;
	virtqueue_advance(ring_of(con, CONTROL_RECEIVE));
	virtqueue_push(ring_of(con, CONTROL_RECEIVE), chain.head, n);
	return true;
}

static void send_all_control(struct virtio_console *con)
{
	bool sent = true;

	for (u32 i = 0; i < CONSOLE_PORTS * ARRAY_SIZE(control_order) && sent; i++) {
		u32 port = i / ARRAY_SIZE(control_order), bit = i % ARRAY_SIZE(control_order);

		if (!(con->states[port].control & 1 << bit))
			continue;
		sent = send_control(con, port, control_order[bit]);
		if (sent)
			con->states[port].control &= ~(1 << bit);
	}
	virtio_interrupt_queue(&con->virtio, CONTROL_RECEIVE);
}

// --- the thread's side ---

static void tell_opened(struct virtio_console *con, u32 port)
{
	struct console_thread_state *own = &con->ports[port];

	for (;;) {
		pthread_mutex_lock(&con->virtio.lock);

		bool open = is_open(con, port);
		u32 closes = con->states[port].closes;

		pthread_mutex_unlock(&con->virtio.lock);

		// Closed and opened again since: both are said.
		if (own->told_open && own->told_closes != closes)
			open = false;
		own->told_closes = closes;
		if (open == own->told_open)
			return;
		own->told_open = open;
		if (own->port.ops->opened)
			own->port.ops->opened(own->port.ctx, open);
	}
}

static void serve_control(struct virtio_console *con)
{
	struct virtqueue *ring = ring_of(con, CONTROL_TRANSMIT);
	struct virtqueue_chain chain;
	u32 budget = CONSOLE_QUEUE_SIZE;

	pthread_mutex_lock(&con->virtio.lock);
	while (budget && next_chain(con, CONTROL_TRANSMIT, &chain)) {
		struct control message = { 0 };

		if (virtqueue_copy_from(&chain, 0, &message, sizeof(message)) == sizeof(message))
			take_control(con, &message);
		else
			con->bad_control++;
		virtqueue_advance(ring);
		virtqueue_push(ring, chain.head, 0);
		budget--;
	}
	if (!budget)
		virtio_kick(&con->virtio, CONTROL_TRANSMIT);
	virtio_interrupt_queue(&con->virtio, CONTROL_TRANSMIT);
	send_all_control(con);
	pthread_mutex_unlock(&con->virtio.lock);

	for (u32 port = 0; port < CONSOLE_PORTS; port++)
		tell_opened(con, port);
}

// A piece of what the guest sent, in the port's bounce buffer.
struct piece {
	u32 resets; // of the device, when it was taken
	u16 head;
	u64 total; // bytes of the chain
	size_t size;
};

static bool take_piece(struct virtio_console *con, u32 port, struct piece *piece)
{
	struct console_port_state *state = &con->states[port];
	struct virtqueue_chain chain;

	pthread_mutex_lock(&con->virtio.lock);

	bool found = !state->stalled && next_chain(con, transmit_queue(port), &chain);

	if (found) {
		virtqueue_disable_notify(ring_of(con, transmit_queue(port)));
		*piece = (struct piece){
			.resets = con->virtio.resets,
			.head = chain.head,
			.total = chain.readable_size,
			.size = virtqueue_copy_from(&chain, state->taken, con->ports[port].bounce,
						    CONSOLE_INPUT_MAX),
		};
		// Until input() has taken it. A resume from within input() is thus not lost.
		state->stalled = true;
	} else {
		virtio_interrupt_queue(&con->virtio, transmit_queue(port));
		virtio_finish_reset(&con->virtio);
	}
	pthread_mutex_unlock(&con->virtio.lock);
	return found;
}

static void finish_piece(struct virtio_console *con, u32 port, const struct piece *piece, size_t consumed)
{
	struct console_port_state *state = &con->states[port];

	pthread_mutex_lock(&con->virtio.lock);
	// After a reset the chain is no more.
	if (piece->resets == con->virtio.resets && virtio_is_live(&con->virtio)) {
		state->taken += consumed;
		if (consumed == piece->size)
			state->stalled = false;
		if (state->taken >= piece->total) {
			state->taken = 0;
			virtqueue_advance(ring_of(con, transmit_queue(port)));
			virtqueue_push(ring_of(con, transmit_queue(port)), piece->head, 0);
		}
	}
	pthread_mutex_unlock(&con->virtio.lock);
}

static void end_serving(bool **serving)
{
	**serving = false;
}

static void serve_input(struct virtio_console *con, u32 port)
{
	struct console_thread_state *own = &con->ports[port];
	u32 budget = CONSOLE_QUEUE_SIZE;
	struct piece piece;

	// From within its own input(): the loop below, further down the stack, goes on with it.
	if (own->serving)
		return;

	CLEANUP(end_serving)
	bool *serving = &own->serving;

	*serving = true;
	while (budget && take_piece(con, port, &piece)) {
		size_t consumed = 0;

		// The lock is not held: input() may freeze the machine, and a vCPU that waits for the lock
		// could not stop.
		if (piece.size)
			consumed = own->port.ops->input(own->port.ctx, own->bounce, piece.size);
		finish_piece(con, port, &piece, consumed < piece.size ? consumed : piece.size);
		budget--;
	}
	if (!budget)
		virtio_kick(&con->virtio, transmit_queue(port));
}

static void serve_writable(struct virtio_console *con, u32 port)
{
	struct console_port_state *state = &con->states[port];

	pthread_mutex_lock(&con->virtio.lock);

	bool writable = state->want_writable && is_open(con, port) &&
			virtqueue_enable_notify(ring_of(con, receive_queue(port)));

	if (writable)
		state->want_writable = false;
	pthread_mutex_unlock(&con->virtio.lock);
	if (writable && con->ports[port].port.ops->writable)
		con->ports[port].port.ops->writable(con->ports[port].port.ctx);
}

void virtio_console_serve(struct virtio_console *con, u32 queue)
{
	virtio_clear_kick(&con->virtio, queue);
	if (queue == CONTROL_RECEIVE || queue == CONTROL_TRANSMIT)
		serve_control(con);
	else if (queue & 1)
		serve_input(con, queue == 1 ? 0 : (queue - 3) / 2);
	else
		serve_writable(con, queue == 0 ? 0 : (queue - 2) / 2);
}

size_t virtio_console_write(struct virtio_console *con, u32 port, const void *data, size_t size)
{
	u32 queue = receive_queue(port);
	struct virtqueue *ring = ring_of(con, queue);
	struct virtqueue_chain chain;
	u32 budget = 2 * CONSOLE_QUEUE_SIZE; // a guest that adds buffers without bytes must not hold us
	size_t done = 0;

	pthread_mutex_lock(&con->virtio.lock);
	while (done < size && budget && is_open(con, port) && next_chain(con, queue, &chain)) {
		size_t n = virtqueue_copy_to(&chain, 0, (const u8 *)data + done, size - done);

		virtqueue_advance(ring);
		virtqueue_push(ring, chain.head, n);
		done += n;
		budget--;
	}
	if (done < size) {
		con->states[port].want_writable = true;
		if (!budget)
			virtio_kick(&con->virtio, queue);
	} else {
		virtqueue_disable_notify(ring);
	}
	virtio_interrupt_queue(&con->virtio, queue);
	pthread_mutex_unlock(&con->virtio.lock);
	return done;
}

void virtio_console_resume(struct virtio_console *con, u32 port)
{
	pthread_mutex_lock(&con->virtio.lock);
	con->states[port].stalled = false;
	pthread_mutex_unlock(&con->virtio.lock);
	virtio_kick(&con->virtio, transmit_queue(port));
}

bool virtio_console_is_open(struct virtio_console *con, u32 port)
{
	pthread_mutex_lock(&con->virtio.lock);

	bool open = is_open(con, port);

	pthread_mutex_unlock(&con->virtio.lock);
	return open;
}

// --- state ---

static void console_save(void *device, struct buf *out)
{
	struct virtio_console *con = device;

	pthread_mutex_lock(&con->virtio.lock);
	buf_put_u32(out, STATE_VERSION);
	virtio_save(&con->virtio, out);
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		buf_put_u8(out, con->states[port].guest_open);
		buf_put_u8(out, con->states[port].control);
		buf_put_u64(out, con->states[port].taken);
	}
	pthread_mutex_unlock(&con->virtio.lock);
}

static struct error *load_locked(struct virtio_console *con, struct reader *in)
{
	struct console_port_state states[CONSOLE_PORTS] = { 0 };
	struct virtio_state virtio;
	u32 version = reader_get_u32(in);
	bool ok = true;
	struct error *err = virtio_parse(&con->virtio, in, &virtio);

	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		states[port].guest_open = state_get_bool(in, &ok);
		states[port].control = reader_get_u8(in);
		states[port].taken = reader_get_u64(in);
		ok = ok && !(states[port].control >> ARRAY_SIZE(control_order));
	}
	if (!err)
		err = state_check(in, console_ops.name, version, STATE_VERSION);
	if (!err && !ok)
		err = error_create(ERROR_FORMAT, "saved virtio-console has a port in no possible state");
	if (err)
		return err;

	virtio_apply(&con->virtio, &virtio);
	for (u32 port = 0; port < CONSOLE_PORTS; port++) {
		struct console_port_state *state = &con->states[port];

		set_guest_open(con, port, false);
		states[port].closes = state->closes;
		states[port].want_writable = state->want_writable;
		*state = states[port];
	}
	return NULL;
}

static struct error *console_load(void *device, struct reader *in)
{
	struct virtio_console *con = device;

	pthread_mutex_lock(&con->virtio.lock);

	struct error *err = load_locked(con, in);

	pthread_mutex_unlock(&con->virtio.lock);
	return err;
}

const struct device_state_ops virtio_console_state_ops = {
	.name = "virtio-console",
	.save = console_save,
	.load = console_load,
};
