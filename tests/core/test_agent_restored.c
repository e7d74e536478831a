// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an agent does when its machine goes on from a saved one. Reseeding takes CAP_SYS_ADMIN: where the tests do
 * not have it, they see the agent refuse in the same words as a kernel does.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include <linux/random.h>

#include "core/agent_client.h"

#define RUN_ID "0123456789abcdef0123456789ABCDEF"
#define OTHER_ID "ffffffffffffffffffffffffffffffff"

/* What the kernel would say to the agent: 0, or an errno. */
static int reseed_error(void)
{
	struct {
		struct rand_pool_info info;
		u8 bytes[4];
	} nothing = { { .entropy_count = 0, .buf_size = 4 }, { 0 } };
	int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	int error = fd < 0 || ioctl(fd, RNDADDENTROPY, &nothing) || ioctl(fd, RNDRESEEDCRNG) ? errno : 0;

	close(fd);
	return error;
}

static u64 realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/* What the host says, but for what is left out (NULL, 0, 0). */
static void begin_restored(struct client *c, const char *run_id, u64 ns, size_t entropy)
{
	static const u64 words[WIRE_ATTR_VALUE_MAX / sizeof(u64)] = { 1, 2, 3 };

	client_begin(c);
	if (run_id)
		attr_put_string(&c->attrs, ATTR_RUN_ID, run_id);
	if (ns)
		attr_put_u64(&c->attrs, ATTR_REALTIME_NS, ns);
	if (entropy)
		attr_put_u64_array(&c->attrs, ATTR_ENTROPY, words, entropy / sizeof(u64));
}

static void next_frame(struct client *c, u32 type, struct frame *ret)
{
	assert_true(client_frame(c, ret));
	assert_int_equal(ret->type, type);
}

/* SYS_RDY as at the start, and the run's id. */
static void expect_hello(struct client *c, const char *run_id)
{
	static const u32 types[] = { ATTR_VERSION, ATTR_RELEASE, ATTR_PID, ATTR_RUN_ID };
	struct attr_reader r;
	struct attr a;
	struct frame f;
	char text[64];

	next_frame(c, MSG_SYS_RDY, &f);
	r = attr_reader_init(f.payload, f.length);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		assert_true(attr_next(&r, &a));
		assert_int_equal(a.info->type, types[i]);
	}
	assert_true(attr_string(&a, text, sizeof(text)));
	assert_string_equal(text, run_id);
	assert_false(attr_next(&r, &a));
	assert_false(r.malformed);
}

/* The request in c is expected to be carried out, the hello coming before the reply. */
static void carried_out(struct client *c, const char *run_id)
{
	u32 id = client_send(c, OP_RESTORED), error = (u32)reseed_error();

	if (!error)
		expect_hello(c, run_id);
	assert_int_equal(client_wait(c, id), error);
	if (!error)
		assert_int_equal(c->reply.length, 0);
	else
		assert_non_null(strstr(reply_message(c), "the random pool"));
}

static void a_restored_agent_says_that_it_is_ready_and_then_replies(void **state)
{
	struct client *c = *state;

	begin_restored(c, RUN_ID, realtime_ns(), 64);
	carried_out(c, RUN_ID);
	assert_int_equal(client_ping(c), 0);

	/* And again, since what was restored can be saved, or go back to where it was. */
	begin_restored(c, OTHER_ID, realtime_ns(), 64);
	carried_out(c, OTHER_ID);
}

static void all_the_entropy_that_an_attribute_holds_is_taken(void **state)
{
	struct client *c = *state;

	begin_restored(c, RUN_ID, realtime_ns(), WIRE_ATTR_VALUE_MAX / sizeof(u64) * sizeof(u64));
	carried_out(c, RUN_ID);
}

/* A SYS_RDY, which there must not be, would fail the call. */
static void refused(struct client *c, u32 error, const char *words)
{
	assert_int_equal(client_call(c, OP_RESTORED), error);
	if (!strstr(reply_message(c), words))
		fail_msg("'%s' does not say '%s'", reply_message(c), words);
}

static void what_is_missing_or_malformed_is_named(void **state)
{
	static const char *const bad_ids[] = {
		"",
		"0123456789abcdef0123456789abcde",
		"0123456789abcdef0123456789abcdef0",
		"0123456789abcdef0123456789abcdeg",
		"0123456789abcdef 123456789abcdef",
	};
	struct client *c = *state;
	u64 now = realtime_ns();

	begin_restored(c, NULL, now, 64);
	refused(c, EINVAL, "RUN_ID is missing");
	for (size_t i = 0; i < ARRAY_SIZE(bad_ids); i++) {
		begin_restored(c, bad_ids[i], now, 64);
		refused(c, EINVAL, "RUN_ID is not 32 hexadecimal digits");
	}
	begin_restored(c, RUN_ID, 0, 64);
	refused(c, EINVAL, "REALTIME_NS is missing");
	begin_restored(c, RUN_ID, UINT64_MAX, 64);
	refused(c, EINVAL, "REALTIME_NS");
	begin_restored(c, RUN_ID, now, 0);
	refused(c, EINVAL, "ENTROPY has 0 bytes, not 64");
	begin_restored(c, RUN_ID, now, 56);
	refused(c, EINVAL, "ENTROPY has 56 bytes, not 64");
	begin_restored(c, RUN_ID, now, 64);
	c->attrs.size -= 4;
	refused(c, EINVAL, "malformed");
	assert_int_equal(client_ping(c), 0);
}

static void without_a_random_pool_it_is_not_ready(void **state)
{
	static const struct {
		const char *path, *words;
		u32 error;
	} pools[] = {
		{ "/dev/null", "cannot add to the random pool", ENOTTY },
		{ "/no/such", "cannot open '/no/such'", ENOENT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pools); i++) {
		struct client *c = client_start_with("--random", pools[i].path);

		client_expect_ready(c);
		begin_restored(c, RUN_ID, realtime_ns(), 64);
		refused(c, pools[i].error, pools[i].words);
		assert_int_equal(client_ping(c), 0);
		client_shut_down(c, 0);
		client_free(c);
	}
}

/* An agent whose standard error goes to the file. */
static struct client *start_logged(int log)
{
	int err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	struct client *c;

	dup2(log, STDERR_FILENO);
	c = client_start();
	client_expect_ready(c);
	dup2(err, STDERR_FILENO);
	close(err);
	return c;
}

static void under_test_it_leaves_the_clock_alone_and_says_so(void **state)
{
	const u64 hour = 3600ull * 1000000000, before = realtime_ns();
	int log = memfd_create("log", MFD_CLOEXEC);
	struct client *c = start_logged(log);
	long long off = 0;
	char text[256] = "";

	begin_restored(c, RUN_ID, before + hour, 64);
	carried_out(c, RUN_ID);
	client_shut_down(c, 0);
	client_free(c);

	const u64 after = realtime_ns();

	assert_true(pread(log, text, sizeof(text) - 1, 0) >= 0);
	close(log);
	assert_true(after - before < hour / 2);
	if (reseed_error()) {
		assert_string_equal(text, "");
		return;
	}
	assert_int_equal(sscanf(text, "ktstr-agent: under test: CLOCK_REALTIME stays; it is off by %lld ns", &off), 1);
	assert_true(off >= -(long long)hour && off <= (long long)(after - before - hour));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_AGENT(a_restored_agent_says_that_it_is_ready_and_then_replies),
		WITH_AGENT(all_the_entropy_that_an_attribute_holds_is_taken),
		WITH_AGENT(what_is_missing_or_malformed_is_named),
		cmocka_unit_test(without_a_random_pool_it_is_not_ready),
		cmocka_unit_test(under_test_it_leaves_the_clock_alone_and_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
