// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The conversation with the guest as a part of a saved machine.
 */
#include <string.h>

#include "coordinator/failure.h"
#include "coordinator/internal.h"
#include "coordinator/periodic.h"

enum { SAVED_VERSION = 2 };

struct machine *coordinator_machine(struct coordinator *c)
{
	return c->machine;
}

void coordinator_save(struct coordinator *c, struct buf *out)
{
	const struct frame_reader *r = &c->reader;

	buf_put_u32(out, SAVED_VERSION);
	outbox_save(&c->outbox, out);
	buf_put_u32(out, (u32)(r->end - r->start));
	buf_put(out, r->data + r->start, r->end - r->start);
	buf_put_u8(out, c->is_asked);
	buf_put_u32(out, c->asked.request_id);
	buf_put_u32(out, c->asked.kind);
	buf_put(out, c->asked.tag, WIRE_TAG_SIZE);
	buf_put_u32(out, c->reply.pending ? c->reply.size : 0);
	buf_put(out, c->reply.payload, c->reply.pending ? c->reply.size : 0);
	buf_put_u8(out, c->reported);
	buf_put_u32(out, (u32)c->exit_code);
	kernel_ops_save(c, out);
}

struct saved_bytes {
	const void *data;
	u32 size;
};

static struct saved_bytes take_bytes(struct reader *in)
{
	struct saved_bytes ret = { .size = reader_get_u32(in) };

	ret.data = reader_take(in, ret.size);
	return ret;
}

static void restore_reader(struct frame_reader *r, struct saved_bytes bytes)
{
	u8 *space;

	frame_reader_reset(r);
	frame_reader_space(r, &space);
	memcpy(space, bytes.data, bytes.size);
	frame_reader_advance(r, bytes.size);
}

struct error *coordinator_load(struct coordinator *c, struct reader *in)
{
	u32 version = reader_get_u32(in);
	struct saved_bytes out = take_bytes(in), partial = take_bytes(in), reply;
	u8 is_asked = reader_get_u8(in);
	struct snapshot_request asked = { 0 };

	asked.request_id = reader_get_u32(in);
	asked.kind = reader_get_u32(in);

	reader_get(in, asked.tag, WIRE_TAG_SIZE);
	reply = take_bytes(in);

	u8 reported = reader_get_u8(in);
	s32 exit_code = (s32)reader_get_u32(in);
	struct saved_bytes rest = { .size = (u32)reader_left(in) };

	rest.data = reader_take(in, rest.size);

	struct reader kernel_ops = reader_init(rest.data, rest.size);
	struct error *err = reader_check(in, "a saved conversation");

	if (err)
		return err;
	if (version != SAVED_VERSION || is_asked > 1 || reported > 1 ||
	    partial.size > c->reader.capacity || reply.size > sizeof(c->reply.payload) ||
	    (is_asked && !snapshot_tag_is_good(asked.tag)) || !kernel_ops_load(c, &kernel_ops) ||
	    !outbox_restore(&c->outbox, out.data, out.size))
		return error_create(ERROR_FORMAT, "a saved conversation makes no sense");
	c->epoch++;
	failure_forget(c);
	periodic_stop(c, "the machine was taken back");
	restore_reader(&c->reader, partial);
	c->is_asked = is_asked;
	c->asked = asked;
	c->reply.pending = reply.size != 0;
	c->reply.size = reply.size;
	memcpy(c->reply.payload, reply.data, reply.size);
	c->reported = reported;
	c->exit_code = exit_code;
	// Of a machine that is taken back: what it said since and nobody has heard, it has not said.
	mailbox_empty(&c->mailbox);
	// Frames that are complete, a request to carry out, bytes to send: looked at with the next turn of the loop.
	coordinator_post(c, REQUEST_SEND | REQUEST_RESUME);
	return NULL;
}
