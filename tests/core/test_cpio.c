// SPDX-License-Identifier: GPL-2.0-or-later
/* The archive against a parser of the format, and against the cpio program where there is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "image/cpio.h"

/* One member, as Documentation/driver-api/early-userspace/buffer-format.rst describes it. */
struct found {
	u32 field[13];
	char name[128];
	const u8 *data;
};

enum { INO,
       MODE,
       UID,
       GID,
       NLINK,
       MTIME,
       SIZE,
       MAJOR,
       MINOR,
       RMAJOR,
       RMINOR,
       NAME_SIZE,
       CHECK };

static u32 parse_hex(const u8 *p)
{
	char text[9] = { 0 };
	char *end;

	memcpy(text, p, 8);

	u32 v = strtoul(text, &end, 16);

	assert_ptr_equal(end, text + 8);
	return v;
}

/* The member at *pos, which is moved behind it. */
static struct found parse_member(const struct buf *b, size_t *pos)
{
	struct found f = { 0 };
	const u8 *p = b->data + *pos;

	assert_int_equal(*pos % 4, 0);
	assert_true(b->size - *pos >= 110);
	assert_memory_equal(p, "070701", 6);
	for (u32 i = 0; i < 13; i++)
		f.field[i] = parse_hex(p + 6 + 8 * i);
	assert_in_range(f.field[NAME_SIZE], 2, sizeof(f.name));
	memcpy(f.name, p + 110, f.field[NAME_SIZE]);
	assert_int_equal(strlen(f.name) + 1, f.field[NAME_SIZE]);
	*pos += ALIGN_UP(110 + f.field[NAME_SIZE], 4);
	f.data = b->data + *pos;
	*pos += ALIGN_UP((size_t)f.field[SIZE], 4);
	assert_true(*pos <= b->size);
	return f;
}

static u32 parse_all(const struct buf *b, struct found *found, u32 max)
{
	size_t pos = 0;
	u32 n = 0;

	for (;;) {
		struct found f = parse_member(b, &pos);

		if (!strcmp(f.name, "TRAILER!!!"))
			break;
		assert_true(n < max);
		found[n++] = f;
	}
	for (; pos < b->size; pos++)
		assert_int_equal(b->data[pos], 0);
	return n;
}

static void fill_archive(struct cpio *c)
{
	cpio_init(c);
	assert_no_error(cpio_add_file(c, "/init", 0755, "#!/bin/sh\n", 10));
	assert_no_error(cpio_add_file(c, "/usr/bin//tool", 04711, "abc", 3));
	assert_no_error(cpio_add_file(c, "usr/empty", 0600, NULL, 0));
	assert_no_error(cpio_add_dir(c, "/tmp/", 01777));
	assert_no_error(cpio_add_symlink(c, "/bin/sh", "/usr/bin/tool"));
	assert_no_error(cpio_add_char_device(c, "/dev/console", 0600, 5, 1));
	assert_no_error(cpio_finish(c));
}

static void every_member_reads_back(void **state)
{
	static const struct {
		const char *name;
		u32 mode;
		const char *data;
	} expected[] = {
		{ "init", S_IFREG | 0755, "#!/bin/sh\n" },
		{ "usr", S_IFDIR | 0755, "" },
		{ "usr/bin", S_IFDIR | 0755, "" },
		{ "usr/bin/tool", S_IFREG | 04711, "abc" },
		{ "usr/empty", S_IFREG | 0600, "" },
		{ "tmp", S_IFDIR | 01777, "" },
		{ "bin", S_IFDIR | 0755, "" },
		{ "bin/sh", S_IFLNK | 0777, "/usr/bin/tool" },
		{ "dev", S_IFDIR | 0755, "" },
		{ "dev/console", S_IFCHR | 0600, "" },
	};
	struct found found[20];
	struct cpio c;

	fill_archive(&c);
	assert_int_equal(parse_all(&c.archive, found, ARRAY_SIZE(found)), ARRAY_SIZE(expected));
	for (u32 i = 0; i < ARRAY_SIZE(expected); i++) {
		assert_string_equal(found[i].name, expected[i].name);
		assert_int_equal(found[i].field[MODE], expected[i].mode);
		assert_int_equal(found[i].field[SIZE], strlen(expected[i].data));
		assert_memory_equal(found[i].data, expected[i].data, strlen(expected[i].data));
		assert_int_equal(found[i].field[UID] | found[i].field[GID] | found[i].field[MTIME],
				 0);
		// Linux takes files with the same number and more than one link for one file.
		assert_int_equal(found[i].field[INO], i + 1);
		assert_int_equal(found[i].field[NLINK], S_ISDIR(expected[i].mode) ? 2 : 1);
	}
	assert_int_equal(found[9].field[RMAJOR], 5);
	assert_int_equal(found[9].field[RMINOR], 1);
	assert_int_equal(c.archive.size % 512, 0);
	cpio_deinit(&c);
}

static void the_same_calls_give_the_same_bytes(void **state)
{
	struct cpio a, b;

	fill_archive(&a);
	fill_archive(&b);
	assert_int_equal(a.archive.size, b.archive.size);
	assert_memory_equal(a.archive.data, b.archive.data, a.archive.size);
	cpio_deinit(&a);
	cpio_deinit(&b);
}

static void thousands_of_files_are_kept_apart(void **state)
{
	struct cpio c;
	char path[64];
	size_t pos = 0;

	cpio_init(&c);
	for (u32 i = 0; i < 5000; i++) {
		snprintf(path, sizeof(path), "/d%u/e/f%u", i % 7, i);
		assert_no_error(cpio_add_file(&c, path, 0644, &i, sizeof(i)));
	}
	for (u32 i = 0; i < 5000; i += 100) {
		snprintf(path, sizeof(path), "/d%u/e/f%u", i % 7, i);
		assert_error(cpio_add_file(&c, path, 0644, &i, sizeof(i)), ERROR_INVALID, path);
	}
	assert_no_error(cpio_finish(&c));
	for (u32 i = 0, n = 0; i < 5000 + 14; i++) {
		struct found f = parse_member(&c.archive, &pos);

		if (S_ISREG(f.field[MODE])) {
			assert_memory_equal(f.data, &n, sizeof(n));
			n++;
		}
	}
	assert_string_equal(parse_member(&c.archive, &pos).name, "TRAILER!!!");
	cpio_deinit(&c);
}

static void what_cannot_go_in_is_refused_and_changes_nothing(void **state)
{
	char longest[4200];
	struct cpio c;

	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	cpio_init(&c);
	assert_no_error(cpio_add_file(&c, "/a/file", 0644, "x", 1));
	assert_no_error(cpio_add_symlink(&c, "/a/link", "file"));

	size_t size = c.archive.size;

	assert_error(cpio_add_file(&c, "", 0644, "x", 1), ERROR_INVALID, "empty path");
	assert_error(cpio_add_file(&c, "/", 0644, "x", 1), ERROR_INVALID, "already");
	assert_error(cpio_add_file(&c, "/a/../b", 0644, "x", 1), ERROR_INVALID, "'.' or '..'");
	assert_error(cpio_add_file(&c, "./b", 0644, "x", 1), ERROR_INVALID, "'.' or '..'");
	assert_error(cpio_add_file(&c, "/a/file", 0644, "x", 1), ERROR_INVALID, "'/a/file' is in");
	assert_error(cpio_add_file(&c, "a//file/", 0644, "x", 1), ERROR_INVALID, "'/a/file' is in");
	assert_error(cpio_add_file(&c, "/a", 0644, "x", 1), ERROR_INVALID, "already");
	assert_error(cpio_add_file(&c, "/a/file/b", 0644, "x", 1), ERROR_INVALID,
		     "not a directory");
	assert_error(cpio_add_dir(&c, "/a/link/b", 0755), ERROR_INVALID, "not a directory");
	assert_error(cpio_add_dir(&c, "/a/file", 0755), ERROR_INVALID, "already");
	assert_error(cpio_add_file(&c, "/b", 010644, "x", 1), ERROR_INVALID, "permission bits");
	assert_error(cpio_add_file(&c, "/TRAILER!!!", 0644, "x", 1), ERROR_INVALID,
		     "end the initramfs");
	assert_error(cpio_add_file(&c, "/b", 0644, "x", 1ULL << 32), ERROR_INVALID, "4 GiB");
	assert_error(cpio_add_symlink(&c, "/b", ""), ERROR_INVALID, "empty");
	longest[4096] = '\0';
	assert_error(cpio_add_file(&c, longest, 0644, "x", 1), ERROR_INVALID, "too long");
	assert_error(cpio_add_symlink(&c, "/b", longest), ERROR_INVALID, "too long");
	assert_int_equal(c.archive.size, size);
	// A directory may be named again; the root is always there.
	assert_no_error(cpio_add_dir(&c, "/a", 0700));
	assert_no_error(cpio_add_dir(&c, "/", 0755));
	assert_int_equal(c.archive.size, size);
	longest[4095] = '\0';
	assert_no_error(cpio_add_symlink(&c, "/b", longest));
	assert_no_error(cpio_add_file(&c, longest, 0644, "x", 1));
	assert_no_error(cpio_finish(&c));
	size = c.archive.size;
	assert_error(cpio_add_dir(&c, "/c", 0755), ERROR_INVALID, "too late");
	assert_error(cpio_finish(&c), ERROR_INVALID, "complete already");
	assert_int_equal(c.archive.size, size);
	cpio_deinit(&c);
}

static void host_files_keep_their_contents_and_mode(void **state)
{
	struct test_dir *d = *state;
	const u32 mode = 0500;
	const size_t big = 300000;
	u8 *data = malloc(big);
	struct found found[4];
	struct cpio c;

	for (size_t i = 0; i < big; i++)
		data[i] = i * 31 >> 3;
	cpio_init(&c);
	test_dir_write(d, "big", data, big);
	assert_int_equal(chmod(d->file, 0751), 0);
	assert_no_error(cpio_add_host_file(&c, "/big", NULL, d->file));
	assert_no_error(cpio_add_host_file(&c, "/again", &mode, d->file));
	// One of /proc says that it has 0 bytes.
	assert_no_error(cpio_add_host_file(&c, "/version", NULL, "/proc/version"));
	assert_no_error(cpio_finish(&c));
	assert_int_equal(parse_all(&c.archive, found, 4), 3);
	assert_int_equal(found[0].field[MODE], S_IFREG | 0751);
	assert_int_equal(found[0].field[SIZE], big);
	assert_memory_equal(found[0].data, data, big);
	assert_int_equal(found[1].field[MODE], S_IFREG | 0500);
	assert_memory_equal(found[2].data, "Linux version ", 14);
	cpio_deinit(&c);
	free(data);
	test_dir_remove(d, "big");
}

static void host_files_that_cannot_be_read_are_named(void **state)
{
	struct test_dir *d = *state;
	struct cpio c;
	int fd;

	cpio_init(&c);
	assert_error(cpio_add_host_file(&c, "/x", NULL, "/nonexistent"), ERROR_NOT_FOUND,
		     "'/nonexistent'");
	assert_error(cpio_add_host_file(&c, "/x", NULL, "/etc/passwd/x"), ERROR_NOT_FOUND,
		     "/etc/passwd/x");
	assert_error(cpio_add_host_file(&c, "/x", NULL, "/etc"), ERROR_INVALID,
		     "'/etc' is a directory");
	assert_error(cpio_add_host_file(&c, "/x", NULL, "/dev/null"), ERROR_INVALID, "'/dev/null'");
	assert_int_equal(mkfifo(test_dir_file(d, "fifo"), 0600), 0);
	assert_error(cpio_add_host_file(&c, "/x", NULL, d->file), ERROR_INVALID,
		     "not a regular file");
	test_dir_remove(d, "fifo");
	assert_error(cpio_add_host_file(&c, "/x", NULL, "/proc/self/mem"), ERROR_OS, "cannot read");

	fd = open(test_dir_write(d, "huge", "", 0), O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 1LL << 32), 0);
	close(fd);
	assert_error(cpio_add_host_file(&c, "/x", NULL, d->file), ERROR_INVALID, "4 GiB");
	test_dir_remove(d, "huge");
	assert_int_equal(c.archive.size, 0);
	cpio_deinit(&c);
}

/* A child appends to a file for as long as it lives; adding that file must fail sooner or later. */
static void a_host_file_that_grows_while_it_is_read_is_refused(void **state)
{
	struct test_dir *d = *state;
	const char *path = test_dir_write(d, "log", "", 0);
	bool refused = false;
	pid_t pid = fork();

	if (!pid) {
		static u8 chunk[1 << 16];
		int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

		memset(chunk, 'x', sizeof(chunk));
		for (u32 i = 0; i < 100000; i++) {
			if (i % 512 == 511 && ftruncate(fd, 0) < 0)
				_exit(1);
			if (write(fd, chunk, sizeof(chunk)) < 0)
				_exit(1);
		}
		_exit(0);
	}
	while (!refused && !waitpid(pid, NULL, WNOHANG)) {
		struct cpio c;

		cpio_init(&c);

		struct error *err = cpio_add_host_file(&c, "/log", NULL, path);

		refused = err && strstr(error_message(err), "changed while it was read");
		if (err)
			assert_int_equal(c.archive.size, 0);
		error_destroy(err);
		cpio_deinit(&c);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_true(refused);
	test_dir_remove(d, "log");
}

/* Runs a shell command in the directory and compares what it prints. */
static void expect_output(struct test_dir *d, const char *command, const char *expected)
{
	char line[512], text[4096] = "";

	snprintf(line, sizeof(line), "cd %s && %s", d->path, command);

	FILE *f = popen(line, "re");

	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	assert_int_equal(pclose(f), 0);
	assert_string_equal(text, expected);
}

static void the_cpio_program_unpacks_it(void **state)
{
	struct test_dir *d = *state;
	struct cpio c;

	if (system("cpio --version >/dev/null 2>&1")) {
		print_message("skipped: no cpio\n");
		skip();
	}
	fill_archive(&c);
	test_dir_write(d, "archive", c.archive.data, c.archive.size);
	expect_output(d, "cpio -t --quiet < archive 2>&1",
		      "init\nusr\nusr/bin\nusr/bin/tool\nusr/empty\ntmp\nbin\nbin/sh\ndev\ndev/"
		      "console\n");
	// Without the device, which takes root.
	expect_output(d,
		      "mkdir out && cd out && cpio -id --quiet --nonmatching dev/console < "
		      "../archive 2>&1",
		      "");
	expect_output(
		d,
		"cat out/init out/usr/bin/tool && stat -c %a out/tmp out/usr/empty out/usr && "
		"readlink out/bin/sh",
		"#!/bin/sh\nabc1777\n600\n755\n/usr/bin/tool\n");
	expect_output(d, "rm -r out archive", "");
	cpio_deinit(&c);
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_member_reads_back),
		cmocka_unit_test(the_same_calls_give_the_same_bytes),
		cmocka_unit_test(thousands_of_files_are_kept_apart),
		cmocka_unit_test(what_cannot_go_in_is_refused_and_changes_nothing),
		IN_DIR(host_files_keep_their_contents_and_mode),
		IN_DIR(host_files_that_cannot_be_read_are_named),
		IN_DIR(a_host_file_that_grows_while_it_is_read_is_refused),
		IN_DIR(the_cpio_program_unpacks_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
