// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The console as a running machine uses it: vCPU threads in its registers and rings, one thread that
 * serves its queues from an event loop. For the thread sanitizer as much as for the assertions.
 */
#include "console_driver.h"

#include <sched.h>

#include "base/loop.h"

enum {
	MESSAGES = 3000,
	RESETS = 60,
	POKES = 2000,
};

// The thread that serves: an event loop with all queues in it, as in the coordinator.
struct server {
	struct driver *d;
	struct loop loop;
	struct queue_source {
		struct server *server;
		u32 queue;
		struct loop_fd fd;
	} sources[CONSOLE_QUEUES];
	pthread_t thread;
};

static void serve_queue(void *ctx, u32 events)
{
	struct queue_source *s = ctx;

	virtio_console_serve(&s->server->d->con, s->queue);
}

static void *run_server(void *arg)
{
	struct server *s = arg;

	assert_fine(loop_run(&s->loop));
	return NULL;
}

static void server_start(struct server *s, struct driver *d)
{
	*s = (struct server){ .d = d };
	assert_fine(loop_init(&s->loop));
	for (u32 q = 0; q < CONSOLE_QUEUES; q++) {
		s->sources[q] = (struct queue_source){ .server = s, .queue = q };
		assert_fine(loop_add_fd(&s->loop, &s->sources[q].fd, virtio_console_fd(&d->con, q), EPOLLIN,
					serve_queue, &s->sources[q]));
	}
	assert_int_equal(pthread_create(&s->thread, NULL, run_server, s), 0);
}

static void server_stop(struct server *s)
{
	loop_stop(&s->loop);
	pthread_join(s->thread, NULL);
	loop_deinit(&s->loop);
}

// Port 2 on the host's side sends back all that it gets, as far as the guest has buffers.
struct echo {
	struct driver *d;
	u8 data[1 << 16];
	size_t start, end;
};

static void echo_out(struct echo *e)
{
	e->start += virtio_console_write(&e->d->con, CONSOLE_PORT_RELAY, e->data + e->start, e->end - e->start);
	if (e->start < e->end)
		return;
	e->start = e->end = 0;
	virtio_console_resume(&e->d->con, CONSOLE_PORT_RELAY);
}

static size_t echo_input(void *ctx, const void *data, size_t size)
{
	struct echo *e = ctx;

	if (e->end) // one at a time
		return 0;
	memcpy(e->data, data, size);
	e->end = size;
	echo_out(e);
	return size;
}

static void echo_writable(void *ctx)
{
	echo_out(ctx);
}

static const struct console_port_ops echo_ops = { .input = echo_input, .writable = echo_writable };

// A vCPU that is busy with the registers of a device that others use.
struct poker {
	struct driver *d;
	pthread_t thread;
};

static void *poke(void *arg)
{
	struct driver *d = ((struct poker *)arg)->d;
	u32 at = driver_capability(d, PCI_CAP_ID_MSIX, 0);
	u64 table = d->bar + VIRTIO_MSIX_TABLE_OFFSET;

	for (u32 i = 0; i < POKES; i++) {
		driver_load(d, d->common + VIRTIO_PCI_COMMON_STATUS, 1);
		driver_load(d, d->config + 4, 4);
		driver_load(d, d->isr, 1);
		bus_write(&d->mmio, table + 16 * (i % CONSOLE_VECTORS) + 12, &(u32){ 1 }, 4);
		driver_load(d, d->bar + VIRTIO_MSIX_PENDING_OFFSET, 8);
		bus_write(&d->mmio, table + 16 * (i % CONSOLE_VECTORS) + 12, &(u32){ 0 }, 4);
		driver_load(d, driver_config_register(at), 4);
		virtio_console_is_open(&d->con, i % CONSOLE_PORTS);
	}
	return NULL;
}

// A guest's vCPU that writes numbers to the relay and reads them back.
static void exchange(struct driver *d, u32 messages)
{
	u32 out = driver_out_queue(CONSOLE_PORT_RELAY), in = driver_in_queue(CONSOLE_PORT_RELAY);
	u32 sent = 0, received = 0, id, size;

	while (received < messages) {
		u16 in_flight = d->rings[out].offered - d->rings[out].taken;

		if (sent < messages && in_flight < d->rings[out].size) {
			driver_send(d, CONSOLE_PORT_RELAY, &sent, sizeof(sent));
			sent++;
		}
		while (guest_take(&d->rings[out], &id, &size))
			;

		const u32 *number = driver_receive(d, in, &size);

		if (!number) {
			sched_yield();
			continue;
		}
		assert_int_equal(size, sizeof(*number));
		assert_int_equal(*number, received);
		received++;
		driver_offer(d, in, DRIVER_BUFFER, true);
		driver_notify(d, in);
	}
}

static void numbers_come_back_in_order_while_others_poke(void **state)
{
	struct driver *d = calloc(1, sizeof(*d));
	struct echo *e = calloc(1, sizeof(*e));
	struct poker pokers[2];
	struct server s;

	driver_init(d, false);
	e->d = d;
	driver_open_all(d, DRIVER_FEATURES);
	d->con.ports[CONSOLE_PORT_RELAY].port = (struct console_port){ &echo_ops, e };
	server_start(&s, d);
	for (u32 i = 0; i < 2; i++) {
		pokers[i].d = d;
		assert_int_equal(pthread_create(&pokers[i].thread, NULL, poke, &pokers[i]), 0);
	}
	exchange(d, MESSAGES);
	for (u32 i = 0; i < 2; i++)
		pthread_join(pokers[i].thread, NULL);
	server_stop(&s);
	assert_false(driver_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET);
	driver_deinit(d);
	free(e);
	free(d);
}

// Waits for the device to give back a chain of the queue.
static void wait_for_chain(struct driver *d, u32 queue)
{
	u32 id, size;

	while (!guest_take(&d->rings[queue], &id, &size))
		sched_yield();
}

static void a_guest_may_reset_and_start_again_at_any_time(void **state)
{
	struct driver *d = calloc(1, sizeof(*d));
	struct echo *e = calloc(1, sizeof(*e));
	struct server s;

	driver_init(d, false);
	e->d = d;
	d->con.ports[CONSOLE_PORT_RELAY].port = (struct console_port){ &echo_ops, e };
	server_start(&s, d);
	for (u32 i = 0; i < RESETS; i++) {
		driver_start(d, DRIVER_FEATURES);
		for (u32 port = 0; port < CONSOLE_PORTS; port++)
			driver_fill(d, driver_in_queue(port));
		driver_fill(d, CONTROL_IN);
		driver_control(d, 0, EVENT_DEVICE_READY, 1);
		driver_control(d, CONSOLE_PORT_RELAY, EVENT_PORT_OPEN, 1);
		for (u32 n = 0; n < 1 + i % 5; n++)
			driver_send(d, CONSOLE_PORT_RELAY, &n, sizeof(n));
		if (i % 3 == 0) // sometimes let it get somewhere
			wait_for_chain(d, CONTROL_OUT);
		if (i % 3 == 1)
			wait_for_chain(d, CONTROL_IN);
		if (i % 7 == 0)
			driver_store(d, driver_config_register(PCI_COMMAND), 0, 2);
		driver_store(d, driver_config_register(PCI_COMMAND), PCI_COMMAND_MEMORY, 2);
		driver_set_status(d, 0);
	}
	server_stop(&s);
	for (u32 i = 0; i < VIRTQUEUE_FAULTS; i++)
		assert_int_equal(d->con.virtio.faults[i], 0);
	driver_deinit(d);
	free(e);
	free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_come_back_in_order_while_others_poke),
		cmocka_unit_test(a_guest_may_reset_and_start_again_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
