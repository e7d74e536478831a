// SPDX-License-Identifier: GPL-2.0-or-later
/* Extracting the vmlinux out of a bzImage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "core/image_builder.h"
#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "image/kernel.h"
#include "image/store.h"

static u32 count_entries(const char *path)
{
	DIR *dir = opendir(path);
	u32 n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void what_is_extracted_is_read_only_sparse_and_the_same(void **state)
{
	struct test_dir *d = *state;
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;
	char out[96];
	struct stat st;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_ZSTD });
	strcpy(out, test_dir_write(d, "v", "old", 3));
	assert_no_error(kernel_image_extract(test_dir_write(d, "bz", bz.data, bz.size), out));
	assert_int_equal(stat(out, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0444);
	assert_int_equal(st.st_size, vmlinux.size);
	// 500 of its 560 KiB are zero.
	assert_true(st.st_blocks * 512 < 200000);

	int fd = open(out, O_RDONLY | O_CLOEXEC);
	u8 *found = malloc(vmlinux.size);

	assert_int_equal(read(fd, found, vmlinux.size), vmlinux.size);
	assert_memory_equal(found, vmlinux.data, vmlinux.size);
	close(fd);
	free(found);
	assert_int_equal(count_entries(d->path), 2);
	test_dir_remove(d, "v");
	test_dir_remove(d, "bz");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

static void an_extraction_that_fails_leaves_nothing_and_keeps_the_old_file(void **state)
{
	struct test_dir *d = *state;
	struct buf vmlinux = BUF_INIT, bz = BUF_INIT;
	char out[96], in[96];
	struct stat st;

	build_vmlinux(&vmlinux, &(struct vmlinux_options){ 0 });
	build_bzimage(&bz, &vmlinux,
		      &(struct bzimage_options){ .compression = KERNEL_COMPRESSION_ZSTD });
	bz.data[BUILT_PAYLOAD_AT + 500] ^= 4;
	strcpy(out, test_dir_write(d, "v", "old", 3));
	strcpy(in, test_dir_write(d, "bz", bz.data, bz.size));
	assert_error(kernel_image_extract(in, out), ERROR_FORMAT, in);
	bz.data[BUILT_PAYLOAD_AT + 500] ^= 4;
	test_dir_write(d, "bz", bz.data, bz.size);

	// As on a full disk: the limit lets no more than 64 KiB of a file be written.
	pid_t pid = fork();

	if (!pid) {
		const struct rlimit limit = { .rlim_cur = 64 << 10, .rlim_max = RLIM_INFINITY };

		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);

		struct error *err = store_file(out, vmlinux.data, vmlinux.size);
		bool fine = err && error_code(err) == ERROR_OS && strstr(error_message(err), out);

		error_destroy(err);
		_exit(fine ? 0 : 1);
	}

	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_error(kernel_image_extract(in, "/nonexistent/v"), ERROR_OS, "/nonexistent/v");
	test_dir_write(d, "plain", vmlinux.data, vmlinux.size);
	assert_error(kernel_image_extract(test_dir_file(d, "plain"), out), ERROR_INVALID,
		     "not a bzImage");
	assert_int_equal(count_entries(d->path), 3);
	assert_int_equal(stat(out, &st), 0);
	assert_int_equal(st.st_size, 3);
	test_dir_remove(d, "plain");
	test_dir_remove(d, "v");
	test_dir_remove(d, "bz");
	buf_deinit(&bz);
	buf_deinit(&vmlinux);
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(what_is_extracted_is_read_only_sparse_and_the_same),
		IN_DIR(an_extraction_that_fails_leaves_nothing_and_keeps_the_old_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
