// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a restored machine's agent asks of its kernel, call by call: the test answers in the kernel's place, so it
 * needs no privilege, and nothing is reseeded. A seccomp filter, once set, stays: these tests have a program of
 * their own.
 */
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <linux/filter.h>
#include <linux/random.h>
#include <linux/seccomp.h>

#include "core/agent_client.h"

#define RUN_ID "00112233445566778899aabbccddeeff"

/* From now on, what this process's children ask of a random pool or a clock waits for an answer. */
static int watch_calls(void **state)
{
	static int listener;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_settime, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RNDADDENTROPY, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RNDRESEEDCRNG, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	*state = &listener;
	return 0;
}

struct call {
	int system_call;
	u64 request; /* of an ioctl */
	int bits, size; /* of RNDADDENTROPY */
	u8 bytes[4096];
};

static struct {
	u32 count;
	struct call call[8];
} calls;

static void read_entropy(struct call *call, pid_t pid, u64 address)
{
	struct rand_pool_info head;
	struct iovec here = { &head, sizeof(head) }, there = { (void *)address, sizeof(head) };

	assert_int_equal(process_vm_readv(pid, &here, 1, &there, 1, 0), sizeof(head));
	call->bits = head.entropy_count;
	call->size = head.buf_size;
	assert_in_range(call->size, 1, sizeof(call->bytes));
	here = (struct iovec){ call->bytes, (size_t)call->size };
	there = (struct iovec){ (u8 *)address + sizeof(head), (size_t)call->size };
	assert_int_equal(process_vm_readv(pid, &here, 1, &there, 1, 0), call->size);
}

/* Waits for the agent's next call, notes it, answers with that errno, or 0. */
static void answer_call(int listener, int error)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	struct seccomp_notif asked = { 0 };
	struct call *call = &calls.call[calls.count];

	assert_int_equal(poll(&p, 1, CLIENT_WAIT_MS), 1);
	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked), 0);
	assert_true(calls.count++ < ARRAY_SIZE(calls.call));
	*call = (struct call){ .system_call = asked.data.nr, .request = asked.data.args[1] };
	if (call->system_call == SYS_ioctl && call->request == RNDADDENTROPY)
		read_entropy(call, (pid_t)asked.pid, asked.data.args[2]);

	struct seccomp_notif_resp answer = { .id = asked.id, .error = -error };

	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
}

/* An agent that is asked to go on with so many bytes of entropy, byte i being i % 251. */
static struct client *start_and_restore(size_t entropy, u32 *id)
{
	struct client *c = client_start();
	u64 words[512];

	for (size_t i = 0; i < sizeof(words); i++)
		((u8 *)words)[i] = (u8)(i % 251);
	calls.count = 0;
	client_expect_ready(c);
	client_begin(c);
	attr_put_string(&c->attrs, ATTR_RUN_ID, RUN_ID);
	attr_put_u64(&c->attrs, ATTR_REALTIME_NS, 1700000000000000000);
	attr_put_u64_array(&c->attrs, ATTR_ENTROPY, words, entropy / sizeof(u64));
	*id = client_send(c, OP_RESTORED);
	return c;
}

static void end(struct client *c, int listener)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	client_shut_down(c, 0);
	client_free(c);
	/* It asked for nothing more: not for a clock, for one. */
	assert_true(poll(&p, 1, 0) == 0 || !(p.revents & POLLIN));
}

static void expect_hello(struct client *c)
{
	struct frame f;

	assert_true(client_frame(c, &f));
	assert_int_equal(f.type, MSG_SYS_RDY);
}

static void check_entropy(u32 at, size_t offset, int size)
{
	const struct call *call = &calls.call[at];

	assert_int_equal(call->system_call, SYS_ioctl);
	assert_int_equal(call->request, RNDADDENTROPY);
	assert_int_equal(call->size, size);
	assert_int_equal(call->bits, 8 * size);
	for (int i = 0; i < size; i++)
		assert_int_equal(call->bytes[i], (offset + (size_t)i) % 251);
}

static int listener_of(void **state)
{
	int listener = *(int *)*state;

	if (listener < 0)
		skip();
	return listener;
}

static void the_bytes_are_credited_then_the_pool_reseeded_then_it_is_ready(void **state)
{
	int listener = listener_of(state);
	u32 id;
	struct client *c = start_and_restore(64, &id);

	answer_call(listener, 0);
	answer_call(listener, 0);
	check_entropy(0, 0, 64);
	assert_int_equal(calls.call[1].system_call, SYS_ioctl);
	assert_int_equal(calls.call[1].request, RNDRESEEDCRNG);
	expect_hello(c);
	assert_int_equal(client_wait(c, id), 0);
	end(c, listener);
}

static void many_bytes_go_in_pieces_and_all_of_them_do(void **state)
{
	int listener = listener_of(state);
	u32 id;
	struct client *c = start_and_restore(1200, &id);

	for (int i = 0; i < 4; i++)
		answer_call(listener, 0);
	check_entropy(0, 0, 512);
	check_entropy(1, 512, 512);
	check_entropy(2, 1024, 176);
	assert_int_equal(calls.call[3].request, RNDRESEEDCRNG);
	expect_hello(c);
	assert_int_equal(client_wait(c, id), 0);
	end(c, listener);
}

/* A SYS_RDY, which there must not be, would fail the wait. */
static void a_kernel_that_refuses_leaves_it_not_ready(void **state)
{
	static const struct {
		int before, error;
		const char *words;
	} refusals[] = {
		{ 0, EPERM, "cannot add to the random pool: Operation not permitted" },
		{ 1, ENODATA, "cannot reseed the random pool: No data available" },
	};
	int listener = listener_of(state);

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		u32 id;
		struct client *c = start_and_restore(64, &id);

		for (int n = 0; n < refusals[i].before; n++)
			answer_call(listener, 0);
		answer_call(listener, refusals[i].error);
		assert_int_equal(client_wait(c, id), refusals[i].error);
		assert_string_equal(reply_message(c), refusals[i].words);
		end(c, listener);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bytes_are_credited_then_the_pool_reseeded_then_it_is_ready),
		cmocka_unit_test(many_bytes_go_in_pieces_and_all_of_them_do),
		cmocka_unit_test(a_kernel_that_refuses_leaves_it_not_ready),
	};

	return cmocka_run_group_tests(tests, watch_calls, NULL);
}
