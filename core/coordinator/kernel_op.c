// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/kernel_op.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/freeze.h"
#include "coordinator/internal.h"
#include "kernel/op_request.h"
#include "kernel/ops.h"

/* --- slots; their lock is held --- */

static struct kernel_op_slot *find_slot(struct kernel_op_slots *s, enum kernel_op_state state)
{
	for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++)
		if (s->slots[i].state == state)
			return &s->slots[i];
	return NULL;
}

/* One that main knows; NULL: it is over. */
static struct kernel_op_slot *find_token(struct kernel_op_slots *s, u64 token, enum kernel_op_state state)
{
	for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++)
		if (s->slots[i].state == state && s->slots[i].token == token)
			return &s->slots[i];
	return NULL;
}

static void free_slot(struct kernel_op_slot *slot)
{
	free(slot->answer);
	*slot = (struct kernel_op_slot){ 0 };
}

static void free_slots(struct kernel_op_slots *s)
{
	for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++)
		free_slot(&s->slots[i]);
}

/* False when there is no memory for it. */
static bool set_answer(struct kernel_op_slot *slot, const void *answer, size_t size)
{
	slot->answer = malloc(size);
	if (!slot->answer)
		return false;
	memcpy(slot->answer, answer, size);
	slot->size = (u32)size;
	slot->state = KERNEL_OP_ANSWERED;
	return true;
}

/* --- answers that say why there is none --- */

struct refusal {
	u8 data[1024];
	size_t size;
};

static struct refusal refuse(u32 request_id, u32 status, const char *reason)
{
	struct wire_kernel_op_reply head = { .request_id = request_id, .status = status };
	struct refusal ret;
	struct attr_writer w = attr_writer_init(ret.data + sizeof(head), sizeof(ret.data) - sizeof(head));

	memcpy(ret.data, &head, sizeof(head));
	attr_put_string(&w, ATTR_REASON, reason);
	ret.size = sizeof(head) + w.size;
	return ret;
}

static void out_of_memory(struct coordinator *c)
{
	machine_set_detail(c->machine, "the host has no memory for an answer to the guest");
	machine_stop(c->machine, EXIT_FATAL);
}

static void set_refusal(struct coordinator *c, struct kernel_op_slot *slot, u32 status, const char *reason)
{
	struct refusal r = refuse(slot->request_id, status, reason);

	if (!set_answer(slot, r.data, r.size))
		out_of_memory(c);
}

/* --- who does not come in time --- */

static void set_timer(struct coordinator *c)
{
	struct kernel_op_slots *s = &c->kernel_ops;
	u64 first = UINT64_MAX;

	for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++)
		if (s->slots[i].state == KERNEL_OP_WAITING && s->slots[i].deadline_ns < first)
			first = s->slots[i].deadline_ns;
	if (first == UINT64_MAX)
		loop_cancel_timer(&c->loop, &s->timer);
	else
		loop_set_timer(&c->loop, &s->timer, first);
}

static void on_timer(void *ctx)
{
	struct coordinator *c = ctx;
	struct kernel_op_slots *s = &c->kernel_ops;
	u64 now = clock_now_ns();

	pthread_mutex_lock(&s->lock);
	for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++) {
		struct kernel_op_slot *slot = &s->slots[i];

		if (slot->state != KERNEL_OP_WAITING)
			continue;
		// Who asks stands still, too.
		if (gate_is_held(&c->gate))
			slot->deadline_ns = now + s->patience_ns;
		else if (slot->deadline_ns <= now)
			set_refusal(c, slot, KERNEL_OP_TIMEOUT,
				    "the script on the host is busy: it did not come to serve this in time");
	}
	set_timer(c);
	pthread_mutex_unlock(&s->lock);
	kernel_ops_send_answers(c);
}

/* --- their life --- */

void kernel_ops_init(struct coordinator *c)
{
	pthread_mutex_init(&c->kernel_ops.lock, NULL);
	c->kernel_ops.patience_ns = KERNEL_OP_PATIENCE_NS;
	c->kernel_ops.timer = (struct loop_timer){ .fn = on_timer, .ctx = c };
}

void kernel_ops_deinit(struct coordinator *c)
{
	free_slots(&c->kernel_ops);
	pthread_mutex_destroy(&c->kernel_ops.lock);
}

void kernel_ops_end(struct coordinator *c)
{
	pthread_mutex_lock(&c->kernel_ops.lock);
	free_slots(&c->kernel_ops);
	loop_cancel_timer(&c->loop, &c->kernel_ops.timer);
	pthread_mutex_unlock(&c->kernel_ops.lock);
}

/* --- requests --- */

bool kernel_ops_are_full(struct coordinator *c)
{
	pthread_mutex_lock(&c->kernel_ops.lock);

	bool full = !find_slot(&c->kernel_ops, KERNEL_OP_FREE);

	pthread_mutex_unlock(&c->kernel_ops.lock);
	return full;
}

static bool send_to_main(struct coordinator *c, u64 token, const void *payload, size_t size)
{
	u8 *mail = malloc(sizeof(token) + size);
	bool sent;

	if (!mail)
		return false;
	memcpy(mail, &token, sizeof(token));
	memcpy(mail + sizeof(token), payload, size);
	sent = mailbox_put(&c->mailbox, MSG_KERNEL_OP_REQUEST, mail, (u32)(sizeof(token) + size));
	free(mail);
	return sent;
}

void kernel_ops_take_request(struct coordinator *c, const void *payload, size_t size)
{
	struct kernel_op_slots *s = &c->kernel_ops;
	struct op_request request;
	struct error *err = op_request_open(payload, size, &request);

	pthread_mutex_lock(&s->lock);

	struct kernel_op_slot *slot = find_slot(s, KERNEL_OP_FREE);

	// At the end there is nobody to be answered, and what the guest said last must still be read.
	if (slot && !c->draining) {
		*slot = (struct kernel_op_slot){
			.state = KERNEL_OP_WAITING,
			.request_id = request.request_id,
			.token = ++s->last_token,
			.deadline_ns = clock_deadline_ns(s->patience_ns),
		};
		if (err)
			set_refusal(c, slot, KERNEL_OP_FAILED, error_message(err));
		else if (!send_to_main(c, slot->token, payload, size))
			out_of_memory(c);
		set_timer(c);
	}
	pthread_mutex_unlock(&s->lock);
	kernel_ops_send_answers(c);
	error_destroy(err);
}

void kernel_ops_send_answers(struct coordinator *c)
{
	struct kernel_op_slots *s = &c->kernel_ops;
	bool sent = false;

	pthread_mutex_lock(&s->lock);
	for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++) {
		struct kernel_op_slot *slot = &s->slots[i];

		if (slot->state != KERNEL_OP_ANSWERED)
			continue;
		if (!outbox_put(&c->outbox, MSG_KERNEL_OP_REPLY, slot->answer, slot->size))
			break;
		free_slot(slot);
		sent = true;
	}
	pthread_mutex_unlock(&s->lock);
	if (sent)
		coordinator_post(c, REQUEST_SEND | REQUEST_RESUME);
}

/* --- main --- */

bool coordinator_claim_kernel_op(struct coordinator *c, u64 token)
{
	pthread_mutex_lock(&c->kernel_ops.lock);

	struct kernel_op_slot *slot = find_token(&c->kernel_ops, token, KERNEL_OP_WAITING);

	if (slot)
		slot->state = KERNEL_OP_CLAIMED;
	pthread_mutex_unlock(&c->kernel_ops.lock);
	return slot != NULL;
}

struct error *coordinator_answer_kernel_op(struct coordinator *c, u64 token, const void *answer, size_t size)
{
	bool stored = true;

	if (size < sizeof(struct wire_kernel_op_reply) || size > KERNEL_OP_ANSWER_MAX)
		return error_create(ERROR_INVALID, "an answer of %zu bytes: at most %d are possible", size,
				    KERNEL_OP_ANSWER_MAX);
	pthread_mutex_lock(&c->kernel_ops.lock);

	struct kernel_op_slot *slot = find_token(&c->kernel_ops, token, KERNEL_OP_CLAIMED);

	if (slot)
		stored = set_answer(slot, answer, size);
	pthread_mutex_unlock(&c->kernel_ops.lock);
	coordinator_post(c, REQUEST_SEND);
	return stored ? NULL : error_no_memory();
}

void coordinator_inject_kernel_op_patience(struct coordinator *c, u64 patience_ns)
{
	pthread_mutex_lock(&c->kernel_ops.lock);
	c->kernel_ops.patience_ns = patience_ns;
	pthread_mutex_unlock(&c->kernel_ops.lock);
}

/* --- saving --- */

void kernel_ops_save(struct coordinator *c, struct buf *out)
{
	struct kernel_op_slots *s = &c->kernel_ops;
	u32 count = 0;

	pthread_mutex_lock(&s->lock);
	for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++)
		count += s->slots[i].state != KERNEL_OP_FREE;
	buf_put_u32(out, count);
	for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++) {
		const struct kernel_op_slot *slot = &s->slots[i];
		struct refusal r = refuse(slot->request_id, KERNEL_OP_FAILED,
					  "the machine was saved before this was done, and goes on: ask again");
		bool answered = slot->state == KERNEL_OP_ANSWERED;

		if (slot->state == KERNEL_OP_FREE)
			continue;
		buf_put_u32(out, answered ? slot->size : (u32)r.size);
		buf_put(out, answered ? slot->answer : r.data, answered ? slot->size : r.size);
	}
	pthread_mutex_unlock(&s->lock);
}

bool kernel_ops_load(struct coordinator *c, struct reader *in)
{
	struct kernel_op_slots *s = &c->kernel_ops;
	struct kernel_op_slot slots[KERNEL_OPS_WAITING_MAX] = { 0 };
	u32 count = reader_get_u32(in);
	bool good = !in->failed && count <= KERNEL_OPS_WAITING_MAX;

	for (u32 i = 0; good && i < count; i++) {
		u32 size = reader_get_u32(in);
		const void *answer = reader_take(in, size);

		good = answer && size >= sizeof(struct wire_kernel_op_reply) && size <= KERNEL_OP_ANSWER_MAX &&
		       set_answer(&slots[i], answer, size);
	}
	if (!good || reader_left(in)) {
		for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++)
			free_slot(&slots[i]);
		return false;
	}
	pthread_mutex_lock(&s->lock);
	free_slots(s);
	memcpy(s->slots, slots, sizeof(slots));
	pthread_mutex_unlock(&s->lock);
	return true;
}

/* --- cold batches --- */

static struct error *visit(struct coordinator *c, void *arg)
{
	const struct cold_batch *cold = arg;

	// Main's memory: it is not looked at unless main waits.
	if (!call_slot_settle(&c->call))
		return error_create(ERROR_INTERRUPTED, "nobody waits for these operations any more");
	op_batch_run(cold->batch, cold->view);
	return NULL;
}

struct error *kernel_ops_run_cold(struct coordinator *c, const struct cold_batch *cold)
{
	return freeze(c, FREEZE_KERNEL_OP, visit, (void *)cold);
}
