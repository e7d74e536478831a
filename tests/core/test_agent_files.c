// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/stat.h>

#include "core/agent_client.h"

/* A directory of its own for each test, gone with it. */
struct place {
	struct client *client;
	char dir[64], path[PATH_MAX];
};

static int make_place(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	start_agent((void **)&p->client);
	strcpy(p->dir, "/tmp/ktstr-files-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	*state = p;
	return 0;
}

static int remove_place(void **state)
{
	struct place *p = *state;

	client_exec(p->client, ARGS("rm", "-rf", p->dir));
	end_agent((void **)&p->client);
	free(p);
	return 0;
}

static const char *in(struct place *p, const char *name)
{
	snprintf(p->path, sizeof(p->path), "%s/%s", p->dir, name);
	return p->path;
}

static void put(struct place *p, const char *name, u32 mode, u16 flags, const char *text)
{
	struct wire_write head = { .mode = mode, .flags = flags };

	assert_int_equal(client_write_file(p->client, in(p, name), head, text, strlen(text)), 0);
}

static void check(struct place *p, const char *name, const char *text)
{
	assert_int_equal(client_read_file(p->client, in(p, name), 0, 4096), 0);
	assert_int_equal(p->client->reply.length, strlen(text));
	assert_memory_equal(p->client->reply.body, text, strlen(text));
}

static void ten_mebibytes_come_back_as_they_went(void **state)
{
	enum { SIZE = 10 << 20 };
	struct place *p = *state;
	u8 *data = malloc(SIZE);
	u64 x = 88172645463325252ull, at;

	for (size_t i = 0; i < SIZE; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		data[i] = (u8)x;
	}
	for (at = 0; at < SIZE; at += WIRE_DATA_MAX) {
		struct wire_write head = { .offset = at, .mode = 0600 };

		assert_int_equal(client_write_file(p->client, in(p, "big"), head, data + at, WIRE_DATA_MAX), 0);
	}
	/* From the end, and in steps that fit nothing, so that a wrong offset shows. */
	for (at = 0; at < SIZE;) {
		u64 n = 100003 < SIZE - at ? 100003 : SIZE - at;

		assert_int_equal(client_read_file(p->client, in(p, "big"), SIZE - at - n, n), 0);
		assert_int_equal(p->client->reply.length, n);
		assert_memory_equal(p->client->reply.body, data + SIZE - at - n, n);
		at += n;
	}
	assert_int_equal(client_read_file(p->client, in(p, "big"), SIZE - 10, WIRE_DATA_MAX), 0);
	assert_int_equal(p->client->reply.length, 10);
	assert_int_equal(client_read_file(p->client, in(p, "big"), SIZE + 10, WIRE_DATA_MAX), 0);
	assert_int_equal(p->client->reply.length, 0);
	free(data);
}

static void the_flags_of_a_write_do_what_they_say(void **state)
{
	struct place *p = *state;
	struct stat st;

	put(p, "f", 0640, 0, "one two");
	assert_int_equal(stat(in(p, "f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	put(p, "f", 0, 0, "ONE");
	check(p, "f", "ONE two");
	put(p, "f", 0, WRITE_APPEND, " three");
	check(p, "f", "ONE two three");
	put(p, "f", 0, WRITE_TRUNCATE, "new");
	check(p, "f", "new");
	put(p, "f", 0, WRITE_TRUNCATE, "");
	check(p, "f", "");
	put(p, "a/b/c", 0644, WRITE_MKDIR, "deep");
	check(p, "a/b/c", "deep");
	put(p, "a/b/c", 0644, WRITE_MKDIR, "DEEP");
	check(p, "a/b/c", "DEEP");
}

static void a_file_that_cannot_be_had_is_named_with_the_reason(void **state)
{
	struct place *p = *state;
	struct wire_write head = { .mode = 0 };
	char expected[PATH_MAX + 64];

	assert_int_equal(client_read_file(p->client, in(p, "none"), 0, 10), ENOENT);
	snprintf(expected, sizeof(expected), "cannot open '%s': No such file or directory", p->path);
	assert_string_equal(reply_message(p->client), expected);
	assert_int_equal(client_read_file(p->client, p->dir, 0, 10), EISDIR);
	assert_int_equal(client_write_file(p->client, in(p, "none"), head, "x", 1), ENOENT);
	head.mode = 0644;
	assert_int_equal(client_write_file(p->client, in(p, "no/such"), head, "x", 1), ENOENT);
	head.flags = WRITE_MKDIR;
	put(p, "file", 0644, 0, "");
	assert_int_equal(client_write_file(p->client, in(p, "file/below"), head, "x", 1), ENOTDIR);
	assert_int_equal(client_write_file(p->client, "/dev/full", head, "x", 1), ENOSPC);
}

/* /proc says a size of 0, and gives what it has in pieces of its own choice. */
static void files_of_the_kernel_are_read_whole(void **state)
{
	struct place *p = *state;
	struct client *c = p->client;
	char *copy;
	size_t n;
	u32 id;

	assert_int_equal(client_read_file(c, "/proc/kallsyms", 0, 100000), 0);
	assert_int_equal(c->reply.length, 100000);
	copy = malloc(100000);
	memcpy(copy, c->reply.body, 100000);
	id = client_exec(c, ARGS("head", "-c", "60000", "/proc/kallsyms"));
	n = client_output(c, id, MSG_STDOUT)->kept;
	assert_int_equal(n, 60000);
	assert_memory_equal(client_output(c, id, MSG_STDOUT)->text, copy, n);
	free(copy);
}

static void a_pipe_that_nobody_writes_does_not_block_the_agent(void **state)
{
	struct place *p = *state;
	struct wire_write head = { .mode = 0 };

	assert_int_equal(mkfifo(in(p, "fifo"), 0600), 0);
	assert_int_equal(client_read_file(p->client, p->path, 0, 10), 0);
	assert_int_equal(p->client->reply.length, 0);
	assert_int_equal(client_write_file(p->client, in(p, "fifo"), head, "x", 1), ENXIO);

	int fd = open(p->path, O_RDWR | O_CLOEXEC);

	assert_int_equal(client_read_file(p->client, p->path, 0, 10), EAGAIN);
	assert_int_equal(write(fd, "abc", 3), 3);
	assert_int_equal(client_read_file(p->client, p->path, 1, 10), ESPIPE);
	check(p, "fifo", "abc");
	close(fd);
}

#define WITH_PLACE(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PLACE(ten_mebibytes_come_back_as_they_went),
		WITH_PLACE(the_flags_of_a_write_do_what_they_say),
		WITH_PLACE(a_file_that_cannot_be_had_is_named_with_the_reason),
		WITH_PLACE(files_of_the_kernel_are_read_whole),
		WITH_PLACE(a_pipe_that_nobody_writes_does_not_block_the_agent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
