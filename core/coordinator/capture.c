// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Captures: asked for by the guest, by a timer, by main; taken in a freeze, kept, and answered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/freeze.h"
#include "coordinator/internal.h"
#include "machine/frozen.h"

/* A timer's captures have as many names; then they begin anew. */
enum { TICK_NAMES = 64 };

/* --- recording --- */

static struct error *record(struct coordinator *c, void *arg)
{
	struct capture *capture = arg;
	struct error *err = NULL;

	capture->clock_ns = machine_clock_ns(c->machine);
	capture->elapsed_ns = c->frozen_at_ns - c->started_ns - c->frozen_total_ns;
	for (u32 i = 0; !err && i < capture->cpus; i++)
		err = machine_get_regs(c->machine, i, &capture->cpu[i].regs, &capture->cpu[i].sregs);
	return err;
}

struct error *captures_record(struct coordinator *c, enum freeze_source source, const char *tag)
{
	struct capture *capture;
	struct error *err = capture_create(tag, source, machine_cpus(c->machine), &capture);
	u32 times = 0;

	if (err)
		return err;
	err = freeze(c, source, record, capture);
	if (!err)
		err = capture_store_put(&c->captures, capture, &times);
	if (err)
		free(capture);
	else if (times == 2) // said once
		coordinator_warn(c, "the capture '%s' was taken more than once: only the last one is kept", tag);
	return err;
}

/* --- the guest's requests --- */

void captures_send_reply(struct coordinator *c)
{
	// At the end there is nobody to send it to, and what the guest said last must still be read.
	if (c->reply.pending && (c->draining || outbox_put(&c->outbox, MSG_SNAPSHOT_REPLY, c->reply.payload,
							   c->reply.size))) {
		c->reply.pending = false;
		coordinator_post(c, REQUEST_SEND | REQUEST_RESUME);
	}
}

static u32 status_of(const struct error *err)
{
	if (!err)
		return SNAPSHOT_DONE;
	switch (error_code(err)) {
	case ERROR_BUSY:
		return SNAPSHOT_BUSY;
	case ERROR_TIMEOUT:
		return SNAPSHOT_TIMEOUT;
	default:
		return SNAPSHOT_FAILED;
	}
}

/* Destroys err. No other request is read until the reply has found room on its way to the guest. */
static void reply(struct coordinator *c, u32 request_id, struct error *err)
{
	struct wire_snapshot_reply head = { .request_id = request_id, .status = status_of(err) };
	struct attr_writer w = attr_writer_init(c->reply.payload + sizeof(head),
						sizeof(c->reply.payload) - sizeof(head));

	memcpy(c->reply.payload, &head, sizeof(head));
	if (err) {
		char reason[200];

		snprintf(reason, sizeof(reason), "%s", error_message(err));
		attr_put_string(&w, ATTR_REASON, reason);
		error_destroy(err);
	}
	c->reply.size = (u32)(sizeof(head) + w.size);
	c->reply.pending = true;
	captures_send_reply(c);
}

static u32 id_of(const void *payload, size_t size)
{
	u32 id = 0;

	if (size >= sizeof(id))
		memcpy(&id, payload, sizeof(id));
	return id;
}

/* It is carried out when the loop's callback has returned; until then no further frame is read. */
static void ask(struct coordinator *c, const struct snapshot_request *request)
{
	c->asked = *request;
	c->is_asked = true;
}

void captures_take_request(struct coordinator *c, const void *payload, size_t size)
{
	struct snapshot_request request;

	if (!snapshot_request_parse(payload, size, &request))
		reply(c, id_of(payload, size),
		      error_create(ERROR_FORMAT,
				   "the request is malformed: a capture has a name of 1 to %d printable characters",
				   WIRE_TAG_SIZE));
	else if (request.kind != SNAPSHOT_CAPTURE)
		reply(c, request.request_id,
		      error_create(ERROR_UNSUPPORTED, "requests of kind %u are not part of this version",
				   request.kind));
	else if (gate_is_held(&c->gate))
		reply(c, request.request_id, freeze_reject(c, FREEZE_GUEST));
	else
		ask(c, &request);
}

/* --- the timer --- */

static void on_tick(void *ctx)
{
	struct coordinator *c = ctx;

	if (gate_is_held(&c->gate))
		error_destroy(freeze_reject(c, FREEZE_PERIODIC));
	else
		c->tick_due = true;
	loop_set_timer(&c->loop, &c->tick_timer, clock_deadline_ns(c->tick_ns));
}

void captures_set_tick(struct coordinator *c, u64 period_ns)
{
	c->tick_ns = period_ns;
	if (period_ns)
		loop_set_timer(&c->loop, &c->tick_timer, clock_deadline_ns(period_ns));
	else
		loop_cancel_timer(&c->loop, &c->tick_timer);
}

static void tick(struct coordinator *c)
{
	char tag[32];

	snprintf(tag, sizeof(tag), "periodic_%03u", c->ticks++ % TICK_NAMES);

	struct error *err = captures_record(c, FREEZE_PERIODIC, tag);

	if (err)
		coordinator_warn(c, "%s: %s", tag, error_message(err));
	error_destroy(err);
}

/* --- */

void captures_init(struct coordinator *c)
{
	capture_store_init(&c->captures);
	c->tick_timer = (struct loop_timer){ .fn = on_tick, .ctx = c };
}

void captures_serve(struct coordinator *c)
{
	if (c->is_asked) {
		struct error *err = captures_record(c, FREEZE_GUEST, c->asked.tag);

		c->is_asked = false;
		reply(c, c->asked.request_id, err);
		coordinator_resume_input(c);
		// The next request is for the next turn: others have their turn in between.
		if (c->is_asked)
			coordinator_post(c, 0);
	}
	if (c->tick_due && !machine_has_stop(c->machine))
		tick(c);
	c->tick_due = false;
}
