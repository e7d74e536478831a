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

/* The mode of what has that name, and whether it is a plain file. */
static u32 mode_of(struct place *p, const char *name)
{
	struct stat st;

	assert_int_equal(lstat(in(p, name), &st), 0);
	return st.st_mode & (S_IFMT | 07777);
}

static void link_to(struct place *p, const char *target, const char *name)
{
	assert_int_equal(symlink(target, in(p, name)), 0);
}

static void a_link_is_replaced_and_what_it_led_to_is_left_alone(void **state)
{
	struct place *p = *state;
	char other[PATH_MAX];

	put(p, "busybox", 0755, 0, "all of them");
	link_to(p, "busybox", "ls");
	put(p, "ls", 0755, WRITE_TRUNCATE | WRITE_REPLACE, "my own");
	check(p, "ls", "my own");
	check(p, "busybox", "all of them");
	assert_int_equal(mode_of(p, "ls"), S_IFREG | 0755);

	link_to(p, "nowhere", "dangling");
	put(p, "dangling", 0644, WRITE_TRUNCATE | WRITE_REPLACE, "here");
	check(p, "dangling", "here");
	assert_int_equal(access(in(p, "nowhere"), F_OK), -1);

	strcpy(other, in(p, "cat"));
	assert_int_equal(link(in(p, "busybox"), other), 0);
	put(p, "cat", 0755, WRITE_TRUNCATE | WRITE_REPLACE, "another");
	check(p, "busybox", "all of them");

	/* Without the flag, a link is followed as anywhere. */
	link_to(p, "busybox", "sh");
	put(p, "sh", 0755, WRITE_TRUNCATE, "spoilt");
	check(p, "busybox", "spoilt");
}

static void what_is_replaced_has_the_mode_asked_for_and_only_that(void **state)
{
	static const u32 modes[] = { 0777, 0666, 04755, 0400 };
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		put(p, "f", modes[i], WRITE_TRUNCATE | WRITE_REPLACE | WRITE_MKDIR, "x");
		assert_int_equal(mode_of(p, "f"), S_IFREG | modes[i]);
	}
	put(p, "new/deep", 0666, WRITE_TRUNCATE | WRITE_REPLACE | WRITE_MKDIR, "x");
	assert_int_equal(mode_of(p, "new/deep"), S_IFREG | 0666);
	/* A pipe that nobody reads would be no file to write to. */
	assert_int_equal(mkfifo(in(p, "pipe"), 0600), 0);
	put(p, "pipe", 0644, WRITE_TRUNCATE | WRITE_REPLACE, "a file now");
	assert_int_equal(mode_of(p, "pipe"), S_IFREG | 0644);
	check(p, "pipe", "a file now");
}

static void later_pieces_go_behind_the_one_that_replaced(void **state)
{
	struct place *p = *state;
	struct wire_write head = { .offset = 5, .mode = 0700 };

	link_to(p, "/dev/null", "f");
	put(p, "f", 0700, WRITE_TRUNCATE | WRITE_REPLACE, "first");
	assert_int_equal(client_write_file(p->client, in(p, "f"), head, "second", 6), 0);
	check(p, "f", "firstsecond");
	put(p, "f", 0700, WRITE_APPEND, "third");
	check(p, "f", "firstsecondthird");
}

static void what_cannot_be_replaced_is_left_alone(void **state)
{
	static const struct wire_write heads[] = {
		{ .mode = 0644, .flags = WRITE_REPLACE },
		{ .mode = 0644, .flags = WRITE_REPLACE | WRITE_APPEND },
		{ .mode = 0644, .flags = WRITE_REPLACE | WRITE_TRUNCATE, .offset = 1 },
		{ .mode = 0, .flags = WRITE_REPLACE | WRITE_TRUNCATE },
	};
	struct place *p = *state;
	struct wire_write replace = { .mode = 0644, .flags = WRITE_TRUNCATE | WRITE_REPLACE };

	put(p, "dir/kept", 0644, WRITE_MKDIR, "kept");
	assert_int_equal(client_write_file(p->client, in(p, "dir"), replace, "x", 1), EISDIR);
	assert_non_null(strstr(reply_message(p->client), "Is a directory"));
	assert_int_equal(rmdir(in(p, "dir")), -1);
	check(p, "dir/kept", "kept");
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		assert_int_equal(client_write_file(p->client, in(p, "dir/kept"), heads[i], "x", 1), EINVAL);
		assert_non_null(strstr(reply_message(p->client), "first piece"));
	}
	check(p, "dir/kept", "kept");
	assert_int_equal(client_write_file(p->client, in(p, "dir/kept/f"), replace, "x", 1), ENOTDIR);
	check(p, "dir/kept", "kept");
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
		WITH_PLACE(a_link_is_replaced_and_what_it_led_to_is_left_alone),
		WITH_PLACE(what_is_replaced_has_the_mode_asked_for_and_only_that),
		WITH_PLACE(later_pieces_go_behind_the_one_that_replaced),
		WITH_PLACE(what_cannot_be_replaced_is_left_alone),
		WITH_PLACE(a_file_that_cannot_be_had_is_named_with_the_reason),
		WITH_PLACE(files_of_the_kernel_are_read_whole),
		WITH_PLACE(a_pipe_that_nobody_writes_does_not_block_the_agent),
	};

	/* The agent's too: a mode that was asked for has to be more than that. */
	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
