// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/warm_rig.h"
#include "warm/pagemap.h"
#include "warm/touched.h"

enum { PAGES = RIG_MEMORY / MEMORY_PAGE };

/* Memory mapped from a saved one, of which nothing has been touched. The first and last block have data. */
static int restored_setup(void **state)
{
	struct image *image;
	struct rig *r;

	if (rig_setup(state))
		return -1;
	r = *state;
	memset(r->memory.base, 0x11, MEMORY_BLOCK);
	memset(r->memory.base + RIG_MEMORY - MEMORY_BLOCK, 0x22, MEMORY_BLOCK);
	assert_no_error(rig_create(r, r->dir, &image));
	assert_ptr_equal(mmap(r->memory.base, RIG_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
			      image_memory_fd(image), 0),
			 r->memory.base);
	// Nothing is read ahead: a fault finds what it meant, and at most a few neighbours to map along.
	assert_int_equal(madvise(r->memory.base, RIG_MEMORY, MADV_RANDOM), 0);
	image_close(image);
	return 0;
}

static char kind_of(const struct rig *r, u32 page)
{
	struct pagemap pagemap;
	u64 entry;

	assert_no_error(pagemap_open(&pagemap, r->memory.base, RIG_MEMORY));
	assert_no_error(pagemap_get(&pagemap, page, &entry));
	pagemap_close(&pagemap);
	if (!(entry & PAGEMAP_PRESENT))
		return '.';
	return entry & PAGEMAP_FILE ? 'r' : 'w';
}

/* As a machine that has read and written here and there. */
static void touch(struct rig *r)
{
	volatile u8 *base = r->memory.base;

	base[0]++;
	base[1 * MEMORY_PAGE]++;
	(void)base[40 * MEMORY_PAGE];
	base[100 * MEMORY_PAGE]++; // what was a hole
	base[RIG_MEMORY - 1]++;
}

/* Back to the file's own, nothing mapped. */
static void forget(struct rig *r)
{
	assert_int_equal(madvise(r->memory.base, RIG_MEMORY, MADV_DONTNEED), 0);
	assert_int_equal(kind_of(r, 0), '.');
}

static void what_was_touched_is_fetched_and_as_it_was_touched(void **state)
{
	struct rig *r = *state;
	struct buf noted = BUF_INIT;

	touch(r);
	assert_int_equal(kind_of(r, 40), 'r');
	assert_no_error(touched_record(&r->memory, &noted));
	forget(r);
	// All that was written, and at least what was read: its neighbours may have been mapped with it.
	assert_true(touched_fetch(&r->memory, noted.data, noted.size) >= 5 * MEMORY_PAGE);
	assert_int_equal(kind_of(r, 0), 'w');
	assert_int_equal(kind_of(r, 1), 'w');
	assert_int_equal(kind_of(r, 40), 'r');
	assert_int_equal(kind_of(r, 100), 'w');
	assert_int_equal(kind_of(r, PAGES - 1), 'w');
	// Neither what nobody touched nor the holes.
	assert_int_equal(kind_of(r, 101), '.');
	assert_int_equal(kind_of(r, 99), '.');
	assert_int_equal(kind_of(r, PAGES / 2), '.');
	// Fetching changes no byte.
	assert_int_equal(r->memory.base[0], 0x11);
	assert_int_equal(r->memory.base[100 * MEMORY_PAGE], 0);
	assert_int_equal(r->memory.base[RIG_MEMORY - 1], 0x22);
	buf_deinit(&noted);
}

static void of_a_machine_that_touched_nothing_nothing_is_fetched(void **state)
{
	struct rig *r = *state;
	struct buf noted = BUF_INIT;

	assert_no_error(touched_record(&r->memory, &noted));
	assert_int_equal(touched_fetch(&r->memory, noted.data, noted.size), 0);
	buf_deinit(&noted);
}

static void fetching_does_not_undo_what_was_written(void **state)
{
	struct rig *r = *state;
	struct buf noted = BUF_INIT;

	touch(r);
	assert_no_error(touched_record(&r->memory, &noted));
	memset(r->memory.base, 0x77, MEMORY_PAGE);
	assert_true(touched_fetch(&r->memory, noted.data, noted.size) > 0);
	assert_int_equal(r->memory.base[0], 0x77);
	assert_int_equal(r->memory.base[MEMORY_PAGE - 1], 0x77);
	buf_deinit(&noted);
}

/* A note of runs, each "first page, count, whether written". */
static struct buf note(u64 memory_size, const u32 (*runs)[3], size_t count)
{
	struct buf b = BUF_INIT;

	buf_put(&b, "ktstrtp\n", 8);
	buf_put_u64(&b, memory_size);
	for (size_t i = 0; i < count; i++) {
		buf_put_u32(&b, runs[i][0]);
		buf_put_u32(&b, runs[i][1] | runs[i][2] << 31);
	}
	return b;
}

static u64 fetch_runs(struct rig *r, u64 memory_size, const u32 (*runs)[3], size_t count)
{
	struct buf b = note(memory_size, runs, count);
	u64 fetched = touched_fetch(&r->memory, b.data, b.size);

	buf_deinit(&b);
	return fetched;
}

static void runs_are_fetched_as_they_are_written_down(void **state)
{
	static const u32 runs[][3] = { { 0, 3, 1 }, { 3, 2, 0 }, { PAGES - 1, 1, 1 } };
	struct rig *r = *state;

	assert_int_equal(fetch_runs(r, RIG_MEMORY, runs, 3), 6 * MEMORY_PAGE);
	assert_int_equal(kind_of(r, 2), 'w');
	assert_int_equal(kind_of(r, 3), 'r');
	assert_int_equal(kind_of(r, PAGES - 1), 'w');
}

static void runs_that_make_no_sense_fetch_nothing(void **state)
{
	static const u32 bad[][2][3] = {
		{ { 0, 1, 1 }, { PAGES, 1, 0 } },
		{ { 0, 1, 1 }, { PAGES - 1, 2, 0 } },
		{ { 0, 1, 1 }, { UINT32_MAX, 1, 0 } },
		{ { 0, 1, 1 }, { 1, INT32_MAX, 1 } },
		{ { 0, 1, 1 }, { 5, 0, 0 } },
		{ { 0, 2, 1 }, { 1, 1, 0 } },
		{ { 7, 1, 1 }, { 3, 1, 0 } },
	};
	static const u32 good[][3] = { { 0, 1, 1 } };
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(fetch_runs(r, RIG_MEMORY, bad[i], 2), 0);
	assert_int_equal(fetch_runs(r, RIG_MEMORY * 2, good, 1), 0);
	assert_int_equal(touched_fetch(&r->memory, NULL, 0), 0);
	assert_int_equal(kind_of(r, 0), '.');
	assert_int_equal(kind_of(r, 7), '.');
}

static void notes_that_were_cut_or_changed_do_no_harm(void **state)
{
	struct rig *r = *state;
	struct buf noted = BUF_INIT;

	touch(r);
	assert_no_error(touched_record(&r->memory, &noted));
	for (size_t n = 0; n < noted.size; n++)
		assert_true(touched_fetch(&r->memory, noted.data, n) < noted.size * MEMORY_PAGE * BLOCK_PAGES);
	for (size_t i = 0; i < 16; i++) {
		noted.data[i] ^= 1;
		assert_int_equal(touched_fetch(&r->memory, noted.data, noted.size), 0);
		noted.data[i] ^= 1;
	}
	buf_deinit(&noted);
}

static void a_note_has_an_end_however_much_was_touched(void **state)
{
	struct guest_memory m;
	struct buf noted = BUF_INIT;

	assert_no_error(guest_memory_init(&m, 256 << 20, 256 << 20, 1ULL << 32));
	for (u64 page = 0; page < m.size / MEMORY_PAGE; page += 2)
		m.base[page * MEMORY_PAGE] = 1;
	assert_no_error(touched_record(&m, &noted));
	assert_true(noted.size <= 16 + 16384 * 8);
	// The lowest of them, and it is still a note.
	assert_true(touched_fetch(&m, noted.data, noted.size) > 0);
	guest_memory_deinit(&m);
	buf_deinit(&noted);
}

/* From now on, this process has a kernel that cannot populate. */
static bool refuse_to_populate(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_POPULATE_READ, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_POPULATE_WRITE, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(filter), filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void a_kernel_that_cannot_populate_maps_nothing_and_that_is_no_error(void **state)
{
	static const u32 runs[][3] = { { 0, 3, 1 }, { 3, 2, 0 } };
	struct rig *r = *state;
	pid_t pid = fork();
	int status;

	if (!pid) {
		if (!refuse_to_populate())
			_exit(77);
		_exit(fetch_runs(r, RIG_MEMORY, runs, 2) != 0 || kind_of(r, 0) != '.' || r->memory.base[0] != 0x11);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("there is no seccomp\n");
		skip();
	}
	assert_int_equal(status, 0);
}

#define RESTORED(test) cmocka_unit_test_setup_teardown(test, restored_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RESTORED(what_was_touched_is_fetched_and_as_it_was_touched),
		RESTORED(of_a_machine_that_touched_nothing_nothing_is_fetched),
		RESTORED(fetching_does_not_undo_what_was_written),
		RESTORED(runs_are_fetched_as_they_are_written_down),
		RESTORED(runs_that_make_no_sense_fetch_nothing),
		RESTORED(notes_that_were_cut_or_changed_do_no_harm),
		cmocka_unit_test(a_note_has_an_end_however_much_was_touched),
		RESTORED(a_kernel_that_cannot_populate_maps_nothing_and_that_is_no_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
