// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's requests for kernel operations in the coordinator: each gets one answer, whatever main does. There is no
 * thread of the coordinator's here: the test runs its loop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <libgen.h>
#include <limits.h>

#include "coordinator/internal.h"
#include "coordinator/kernel_op.h"
#include "core/kvm_fixture.h"
#include "image/kernel.h"

enum { MEMORY = 32 << 20 };

static struct machine *create_machine(void)
{
	struct machine_config config = {
		.cmdline = "",
		.topology = {
			.nodes = 1,
			.cores = 1,
			.threads = 1,
			.node_llcs = { 1 },
			.node_memory = { MEMORY },
			.distance = { { 10 } },
		},
	};
	char self[PATH_MAX] = "", path[PATH_MAX];
	struct kernel_image *kernel;
	struct machine *m;

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(path, PATH_MAX, "%s/../../guest/tiny", dirname(self));
	assert_no_error(kernel_image_open(path, &kernel));
	config.kernel = kernel;
	assert_no_error(machine_create(&config, &m));
	kernel_image_close(kernel);
	return m;
}

static int setup(void **state)
{
	struct coordinator *c = NULL;

	if (!access("/dev/kvm", R_OK | W_OK))
		assert_no_error(coordinator_create(create_machine(), 0, &c));
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct coordinator *c = *state;

	if (c) {
		struct machine *m = coordinator_machine(c);

		coordinator_destroy(c);
		machine_destroy(m);
	}
	return 0;
}

/* --- the guest --- */

static void ask(struct coordinator *c, u32 id)
{
	u8 payload[64];
	struct wire_kernel_op_request head = { .request_id = id };
	struct attr_writer w = attr_writer_init(payload + sizeof(head), sizeof(payload) - sizeof(head));

	memcpy(payload, &head, sizeof(head));
	attr_put_u32(&w, ATTR_KERNEL_OP, KERNEL_OP_READ);
	attr_put_string(&w, ATTR_SYMBOL, "a");
	kernel_ops_take_request(c, payload, sizeof(head) + w.size);
}

struct answer {
	struct wire_kernel_op_reply head;
	char reason[256];
};

/* The next frame on its way to the guest. */
static bool next_answer(struct coordinator *c, struct answer *ret)
{
	const u8 *data;
	struct wire_header header;
	struct attr_reader r;
	struct attr a;

	*ret = (struct answer){ 0 };
	if (!outbox_peek(&c->outbox, &data))
		return false;
	memcpy(&header, data, sizeof(header));
	assert_int_equal(header.type, MSG_KERNEL_OP_REPLY);
	assert_true(header.length >= sizeof(ret->head));
	memcpy(&ret->head, data + sizeof(header), sizeof(ret->head));
	r = attr_reader_init(data + sizeof(header) + sizeof(ret->head), header.length - sizeof(ret->head));
	while (attr_next(&r, &a))
		if (a.info->type == ATTR_REASON)
			assert_true(attr_string(&a, ret->reason, sizeof(ret->reason)));
	assert_false(r.malformed);
	outbox_take(&c->outbox, sizeof(header) + header.length);
	return true;
}

static void expect_answer(struct coordinator *c, u32 id, u32 status, const char *words)
{
	struct answer a;

	assert_true(next_answer(c, &a));
	assert_int_equal(a.head.request_id, id);
	assert_int_equal(a.head.status, status);
	assert_int_equal(a.head.done, 0);
	if (!strstr(a.reason, words))
		fail_msg("'%s' is not in '%s'", words, a.reason);
}

static void expect_none(struct coordinator *c)
{
	struct answer a;

	assert_false(next_answer(c, &a));
}

/* --- main --- */

/* The token of the next request that main gets. */
static u64 next_token(struct coordinator *c)
{
	bool closed;
	struct mail *m = mailbox_take(&c->mailbox, &closed);
	u64 token;

	assert_non_null(m);
	assert_int_equal(m->type, MSG_KERNEL_OP_REQUEST);
	assert_true(m->size > sizeof(token) + sizeof(struct wire_kernel_op_request));
	memcpy(&token, m->payload, sizeof(token));
	free(m);
	return token;
}

static void answer(struct coordinator *c, u64 token, u32 id)
{
	const struct wire_kernel_op_reply head = { .request_id = id, .status = KERNEL_OP_DONE };

	assert_no_error(coordinator_answer_kernel_op(c, token, &head, sizeof(head)));
	kernel_ops_send_answers(c);
}

static void main_claims_it_once_and_answers_it_once(void **state)
{
	struct coordinator *c = *state;
	u64 token;

	SKIP_WITHOUT_KVM();
	ask(c, 7);
	token = next_token(c);
	answer(c, token, 7); // not claimed
	expect_none(c);
	assert_true(coordinator_claim_kernel_op(c, token));
	assert_false(coordinator_claim_kernel_op(c, token));
	assert_false(coordinator_claim_kernel_op(c, token + 1));
	expect_none(c);
	answer(c, token, 7);
	expect_answer(c, 7, KERNEL_OP_DONE, "");
	answer(c, token, 7);
	expect_none(c);
}

static void what_is_malformed_does_not_reach_main(void **state)
{
	struct coordinator *c = *state;
	bool closed;

	SKIP_WITHOUT_KVM();
	kernel_ops_take_request(c, "\5\0\0\0\0\0\0\0", 8);
	expect_answer(c, 5, KERNEL_OP_FAILED, "the request is malformed: it has no entry");
	kernel_ops_take_request(c, "\5", 1);
	expect_answer(c, 0, KERNEL_OP_FAILED, "malformed");
	assert_null(mailbox_take(&c->mailbox, &closed));
}

static void sixty_four_wait_and_then_nothing_more_is_taken_in(void **state)
{
	struct coordinator *c = *state;
	u64 token = 0;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < KERNEL_OPS_WAITING_MAX; i++) {
		assert_false(kernel_ops_are_full(c));
		ask(c, i);
		token = next_token(c);
	}
	assert_true(kernel_ops_are_full(c));
	assert_true(coordinator_claim_kernel_op(c, token));
	assert_true(kernel_ops_are_full(c));
	answer(c, token, KERNEL_OPS_WAITING_MAX - 1);
	assert_false(kernel_ops_are_full(c));
}

/* Runs the loop until there is an answer. */
static void wait_for_answer(struct coordinator *c)
{
	const u8 *data;

	while (!outbox_peek(&c->outbox, &data))
		assert_no_error(loop_run_once(&c->loop, LOOP_FOREVER));
}

static void main_that_does_not_come_in_time_has_lost_it(void **state)
{
	struct coordinator *c = *state;
	u64 first, second;

	SKIP_WITHOUT_KVM();
	coordinator_inject_kernel_op_patience(c, NSEC_PER_SEC / 1000);
	ask(c, 1);
	ask(c, 2);
	first = next_token(c);
	second = next_token(c);
	assert_true(coordinator_claim_kernel_op(c, second)); // who is at it has all the time
	wait_for_answer(c);
	expect_answer(c, 1, KERNEL_OP_TIMEOUT, "the script on the host is busy");
	assert_false(coordinator_claim_kernel_op(c, first));
	expect_none(c);
	answer(c, second, 2);
	expect_answer(c, 2, KERNEL_OP_DONE, "");
}

static void a_frozen_machine_has_all_the_time(void **state)
{
	struct coordinator *c = *state;
	u64 token;

	SKIP_WITHOUT_KVM();
	coordinator_inject_kernel_op_patience(c, NSEC_PER_SEC / 1000);
	{
		GATE_GUARD struct gate_guard gate = { 0 };
		u64 deadline;

		assert_true(gate_try_acquire(&c->gate, &gate));
		ask(c, 1);
		token = next_token(c);
		deadline = c->kernel_ops.slots[0].deadline_ns;
		while (c->kernel_ops.slots[0].deadline_ns == deadline)
			assert_no_error(loop_run_once(&c->loop, LOOP_FOREVER));
		expect_none(c);
	}
	wait_for_answer(c);
	expect_answer(c, 1, KERNEL_OP_TIMEOUT, "");
	assert_false(coordinator_claim_kernel_op(c, token));
}

static void answers_that_are_none_are_refused(void **state)
{
	struct coordinator *c = *state;
	u8 *data = calloc(1, KERNEL_OP_ANSWER_MAX + 1);
	u64 token;

	SKIP_WITHOUT_KVM();
	ask(c, 1);
	token = next_token(c);
	assert_true(coordinator_claim_kernel_op(c, token));
	assert_error(coordinator_answer_kernel_op(c, token, data, 4), ERROR_INVALID, "an answer of 4 bytes");
	assert_error(coordinator_answer_kernel_op(c, token, data, KERNEL_OP_ANSWER_MAX + 1), ERROR_INVALID, "at most");
	assert_no_error(coordinator_answer_kernel_op(c, token, data, KERNEL_OP_ANSWER_MAX));
	free(data);
}

/* With more than the guest takes in at once: answers wait for room. */
static void fill_outbox(struct coordinator *c)
{
	u8 *filler = calloc(1, WIRE_PAYLOAD_MAX);

	while (outbox_put(&c->outbox, MSG_OP_REQUEST, filler, WIRE_PAYLOAD_MAX))
		;
	while (outbox_put(&c->outbox, MSG_OP_REQUEST, filler, 0))
		;
	free(filler);
}

static void empty_outbox(struct coordinator *c)
{
	const u8 *data;

	while (outbox_peek(&c->outbox, &data))
		outbox_take(&c->outbox, outbox_peek(&c->outbox, &data));
}

/* Answers wait in the order of their slots; whatever the guest takes in makes room. */
static void answers_wait_for_room(void **state)
{
	struct coordinator *c = *state;
	u64 token;

	SKIP_WITHOUT_KVM();
	fill_outbox(c);
	ask(c, 1);
	token = next_token(c);
	assert_true(coordinator_claim_kernel_op(c, token));
	answer(c, token, 1);
	assert_int_equal(c->kernel_ops.slots[0].state, KERNEL_OP_ANSWERED);
	empty_outbox(c);
	kernel_ops_send_answers(c);
	assert_int_equal(c->kernel_ops.slots[0].state, KERNEL_OP_FREE);
	expect_answer(c, 1, KERNEL_OP_DONE, "");
}

static void at_the_end_nobody_is_answered(void **state)
{
	struct coordinator *c = *state;
	u64 token;

	SKIP_WITHOUT_KVM();
	ask(c, 1);
	token = next_token(c);
	c->draining = true;
	kernel_ops_end(c);
	assert_false(coordinator_claim_kernel_op(c, token));
	for (u32 i = 0; i < 2 * KERNEL_OPS_WAITING_MAX; i++)
		ask(c, i);
	assert_false(kernel_ops_are_full(c));
	expect_none(c);
}

/* In a machine that goes on from there, and in one that is taken back to there. */
static void of_a_saved_machine_who_waits_is_told_to_ask_again(void **state)
{
	struct coordinator *c = *state;
	struct buf saved = BUF_INIT;
	u64 waiting, claimed;

	SKIP_WITHOUT_KVM();
	ask(c, 1);
	ask(c, 2);
	waiting = next_token(c);
	claimed = next_token(c);
	assert_true(coordinator_claim_kernel_op(c, claimed));
	kernel_ops_save(c, &saved);
	assert_no_error(buf_check(&saved));
	// It goes on itself: they are answered.
	answer(c, claimed, 2);
	expect_answer(c, 2, KERNEL_OP_DONE, "");
	ask(c, 3);
	next_token(c);

	struct reader in = reader_init(saved.data, saved.size);

	assert_true(kernel_ops_load(c, &in));
	assert_false(coordinator_claim_kernel_op(c, waiting));
	kernel_ops_send_answers(c);
	expect_answer(c, 1, KERNEL_OP_FAILED, "the machine was saved before this was done");
	expect_answer(c, 2, KERNEL_OP_FAILED, "ask again");
	expect_none(c);
	assert_false(kernel_ops_are_full(c));

	for (size_t size = 0; size < saved.size; size++) {
		in = reader_init(saved.data, size);
		assert_false(kernel_ops_load(c, &in));
	}
	buf_deinit(&saved);
}

static void an_answer_that_waits_is_saved_as_it_is(void **state)
{
	struct coordinator *c = *state;
	struct buf saved = BUF_INIT;
	struct reader in;
	u64 token;

	SKIP_WITHOUT_KVM();
	fill_outbox(c);
	ask(c, 9);
	token = next_token(c);
	assert_true(coordinator_claim_kernel_op(c, token));
	answer(c, token, 9);
	kernel_ops_save(c, &saved);
	empty_outbox(c);
	in = reader_init(saved.data, saved.size);
	assert_true(kernel_ops_load(c, &in));
	kernel_ops_send_answers(c);
	expect_answer(c, 9, KERNEL_OP_DONE, "");
	expect_none(c);
	// With more behind it.
	buf_put_u8(&saved, 0);
	in = reader_init(saved.data, saved.size);
	assert_false(kernel_ops_load(c, &in));
	buf_deinit(&saved);
}

static void more_answers_than_there_can_be_are_refused(void **state)
{
	struct coordinator *c = *state;

	SKIP_WITHOUT_KVM();
	for (u32 count = KERNEL_OPS_WAITING_MAX; count <= KERNEL_OPS_WAITING_MAX + 1; count++) {
		const struct wire_kernel_op_reply head = { .status = KERNEL_OP_DONE };
		struct buf saved = BUF_INIT;
		struct reader in;

		buf_put_u32(&saved, count);
		for (u32 i = 0; i < count; i++) {
			buf_put_u32(&saved, sizeof(head));
			buf_put(&saved, &head, sizeof(head));
		}
		in = reader_init(saved.data, saved.size);
		assert_int_equal(kernel_ops_load(c, &in), count == KERNEL_OPS_WAITING_MAX);
		buf_deinit(&saved);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(main_claims_it_once_and_answers_it_once),
		TEST(what_is_malformed_does_not_reach_main),
		TEST(sixty_four_wait_and_then_nothing_more_is_taken_in),
		TEST(main_that_does_not_come_in_time_has_lost_it),
		TEST(a_frozen_machine_has_all_the_time),
		TEST(answers_that_are_none_are_refused),
		TEST(answers_wait_for_room),
		TEST(at_the_end_nobody_is_answered),
		TEST(of_a_saved_machine_who_waits_is_told_to_ask_again),
		TEST(an_answer_that_waits_is_saved_as_it_is),
		TEST(more_answers_than_there_can_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
