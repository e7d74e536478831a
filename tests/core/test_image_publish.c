// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/warm_rig.h"

static void a_published_image_opens_as_what_was_saved(void **state)
{
	struct rig *r = *state;
	struct image *image;

	rig_publish(r, "name", 1);
	assert_int_equal(rig_count(r->dir, NULL), 1);
	assert_no_error(image_open(rig_path(r, "name"), &image));
	rig_check_parts(image);
	assert_true(rig_is_same(r, image));
	assert_no_error(image_verify(image));
	assert_true(image_disk_size(image) < RIG_MEMORY / 4);
	image_close(image);
}

static void a_name_that_is_taken_stays_what_it_is(void **state)
{
	struct rig *r = *state;
	struct image *image;

	rig_publish(r, "name", 2);
	rig_fill(r, 3);
	assert_no_error(rig_create(r, r->dir, &image));
	assert_error(image_publish(image, rig_path(r, "name")), ERROR_BUSY, "name");
	assert_int_equal(rig_count(r->dir, NULL), 1);
	// It is as good as before, for another name.
	assert_no_error(image_publish(image, rig_path(r, "other")));
	image_close(image);
	assert_no_error(image_open(rig_path(r, "other"), &image));
	assert_true(rig_is_same(r, image));
	image_close(image);
	assert_no_error(image_open(rig_path(r, "name"), &image));
	assert_false(rig_is_same(r, image));
	image_close(image);
}

static void whatever_has_the_name_is_in_the_way(void **state)
{
	struct rig *r = *state;
	struct image *image;
	struct stat st;

	assert_no_error(rig_create(r, r->dir, &image));
	assert_int_equal(mkdir(rig_path(r, "empty"), 0700), 0);
	assert_error(image_publish(image, r->path), ERROR_BUSY, "empty");
	assert_int_equal(rig_count(r->path, NULL), 0);
	assert_int_equal(symlink("nowhere", rig_path(r, "link")), 0);
	assert_error(image_publish(image, r->path), ERROR_BUSY, "link");
	assert_int_equal(mkfifo(rig_path(r, "pipe"), 0600), 0);
	assert_error(image_publish(image, r->path), ERROR_BUSY, "pipe");
	assert_int_equal(lstat(r->path, &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(rig_count(r->dir, NULL), 3);
	image_close(image);
}

static void names_that_lead_nowhere_are_errors(void **state)
{
	struct rig *r = *state;
	struct image *image;

	assert_no_error(rig_create(r, r->dir, &image));
	assert_error(image_publish(image, rig_path(r, "no/where")), ERROR_OS, "no/where");
	assert_error(image_publish(image, rig_path(r, "slash/")), ERROR_INVALID, "slash/");
	assert_error(image_publish(image, ""), ERROR_INVALID, "no name");

	char endless[5000];

	memset(endless, 'x', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = 0;
	assert_error(image_publish(image, endless), ERROR_INVALID, "too long");
	assert_int_equal(rig_count(r->dir, NULL), 0);
	image_close(image);
}

static void an_image_in_memory_is_copied_with_its_holes(void **state)
{
	struct rig *r = *state;
	struct image *image;

	rig_fill(r, 4);
	assert_no_error(rig_create(r, NULL, &image));
	assert_no_error(image_publish(image, rig_path(r, "name")));
	image_close(image);
	assert_no_error(image_open(r->path, &image));
	assert_true(rig_is_same(r, image));
	assert_true(image_disk_size(image) < RIG_MEMORY / 4);
	image_close(image);
}

static void an_opened_image_can_be_published_again(void **state)
{
	struct rig *r = *state;
	struct image *image;

	rig_publish(r, "first", 5);
	assert_no_error(image_open(rig_path(r, "first"), &image));
	assert_no_error(image_publish(image, rig_path(r, "second")));
	// It has no name to be linked from any more.
	rig_remove(rig_path(r, "first"));
	rig_remove(rig_path(r, "second"));
	assert_no_error(image_publish(image, rig_path(r, "third")));
	image_close(image);
	assert_no_error(image_open(rig_path(r, "third"), &image));
	assert_true(rig_is_same(r, image));
	assert_true(image_disk_size(image) < RIG_MEMORY / 4);
	image_close(image);
}

static void an_image_stays_usable_when_its_directory_is_removed(void **state)
{
	struct rig *r = *state;
	struct image *image;

	rig_publish(r, "name", 6);
	assert_no_error(image_open(rig_path(r, "name"), &image));
	rig_remove(r->path);
	assert_error(image_open(r->path, &(struct image *){ NULL }), ERROR_NOT_FOUND, "name");
	assert_true(rig_is_same(r, image));
	assert_no_error(image_verify(image));
	rig_check_parts(image);
	image_close(image);
}

/* --- several at once --- */

enum { RACERS = 4 };

struct racer {
	struct rig *r;
	pthread_barrier_t *start;
	struct image *image;
	char path[128];
	struct error *err;
};

static void *race(void *arg)
{
	struct racer *racer = arg;

	pthread_barrier_wait(racer->start);
	racer->err = image_publish(racer->image, racer->path);
	return NULL;
}

static void of_those_that_race_for_a_name_one_gets_it(void **state)
{
	struct rig *r = *state;
	pthread_barrier_t start;

	pthread_barrier_init(&start, NULL, RACERS);
	for (int round = 0; round < 20; round++) {
		struct racer racers[RACERS];
		pthread_t threads[RACERS];
		int winner = -1;
		struct image *image;

		for (int i = 0; i < RACERS; i++) {
			racers[i] = (struct racer){ .r = r, .start = &start };
			strcpy(racers[i].path, rig_path(r, "name"));
			r->memory.base[0] = (u8)i;
			assert_no_error(rig_create(r, i % 2 ? r->dir : NULL, &racers[i].image));
		}
		for (int i = 0; i < RACERS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
		for (int i = 0; i < RACERS; i++) {
			pthread_join(threads[i], NULL);
			if (racers[i].err) {
				assert_error(racers[i].err, ERROR_BUSY, "name");
			} else {
				assert_int_equal(winner, -1);
				winner = i;
			}
			image_close(racers[i].image);
		}
		assert_int_equal(rig_count(r->dir, NULL), 1);
		assert_no_error(image_open(rig_path(r, "name"), &image));
		r->memory.base[0] = (u8)winner;
		assert_true(rig_is_same(r, image));
		image_close(image);
		rig_remove(rig_path(r, "name"));
	}
	pthread_barrier_destroy(&start);
}

/* Whoever sweeps: what is unfinished and nobody is at, goes. */
static void sweep(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char name[512];
		int fd;

		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (!strstr(entry->d_name, ".tmp-"))
			continue;
		fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			rig_remove(name);
		if (fd >= 0)
			close(fd);
	}
	closedir(dir);
}

struct sweeper {
	const char *dir;
	_Atomic bool stop;
	_Atomic u32 opened;
};

static void *sweep_on(void *arg)
{
	struct sweeper *s = arg;

	while (!s->stop)
		sweep(s->dir);
	return NULL;
}

static void what_is_being_published_is_not_swept_away(void **state)
{
	struct rig *r = *state;
	struct sweeper sweeper = { .dir = r->dir };
	struct image *image;
	pthread_t thread;

	rig_fill(r, 7);
	assert_no_error(rig_create(r, NULL, &image)); // it is copied, which takes longer
	assert_int_equal(pthread_create(&thread, NULL, sweep_on, &sweeper), 0);
	for (int i = 0; i < 200; i++) {
		assert_no_error(image_publish(image, rig_path(r, "name")));
		rig_remove(r->path);
	}
	sweeper.stop = true;
	pthread_join(thread, NULL);
	image_close(image);
}

static void *open_on(void *arg)
{
	struct sweeper *s = arg;
	char path[128];

	snprintf(path, sizeof(path), "%s/name", s->dir);
	while (!s->stop) {
		struct image *image;
		struct error *err = image_open(path, &image);

		if (err && error_code(err) != ERROR_NOT_FOUND)
			return err;
		if (!err) {
			err = image_verify(image);
			image_close(image);
			if (err)
				return err;
			s->opened++;
		}
		error_destroy(err);
	}
	return NULL;
}

/* As a cache does it: who opens it at that moment may still put a hint into it, so its name goes first. */
static void remove_named(struct rig *r, const char *name)
{
	char gone[128];

	snprintf(gone, sizeof(gone), "%s/gone", r->dir);
	assert_int_equal(rename(rig_path(r, name), gone), 0);
	while (access(gone, F_OK) == 0)
		rig_remove(gone);
}

static void an_image_that_comes_and_goes_is_found_whole_or_not_at_all(void **state)
{
	struct rig *r = *state;
	struct sweeper opener = { .dir = r->dir };
	struct image *images[2];
	pthread_t thread;
	void *failed;

	// Two that differ in state and memory: a mixture would be noticed.
	rig_fill(r, 8);
	assert_no_error(rig_create(r, r->dir, &images[0]));
	rig_fill(r, 9);
	assert_no_error(rig_create(r, r->dir, &images[1]));
	assert_int_equal(pthread_create(&thread, NULL, open_on, &opener), 0);
	for (u32 i = 0; i < 300 || (i < 100000 && opener.opened < 20); i++) {
		assert_no_error(image_publish(images[i % 2], rig_path(r, "name")));
		remove_named(r, "name");
	}
	opener.stop = true;
	pthread_join(thread, &failed);
	assert_no_error(failed);
	assert_true(opener.opened >= 20);
	image_close(images[0]);
	image_close(images[1]);
}

/* --- killed --- */

static void publish_until_killed(struct rig *r, struct image *image, int told)
{
	for (u32 i = 0;; i++) {
		char name[32];

		snprintf(name, sizeof(name), "n%u", i);
		if (image_publish(image, rig_path(r, name)) || write(told, "x", 1) != 1)
			_exit(1);
	}
}

/* Kills it somewhere in its third publication; how far it is then differs from round to round. */
static void kill_while_publishing(struct rig *r, struct image *image, u32 delay)
{
	int pipes[2];
	char told;
	pid_t pid;

	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (!pid)
		publish_until_killed(r, image, pipes[1]);
	close(pipes[1]);
	assert_int_equal(read(pipes[0], &told, 1), 1);
	assert_int_equal(read(pipes[0], &told, 1), 1);
	for (volatile u32 i = 0; i < delay; i++)
		;
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(pipes[0]);
}

static void check_what_is_left(struct rig *r, u32 *unfinished)
{
	DIR *dir = opendir(r->dir);
	struct dirent *entry;
	struct image *image;

	assert_non_null(dir);
	*unfinished += rig_count(r->dir, ".tmp-");
	assert_true(rig_count(r->dir, ".tmp-") <= 1);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || strstr(entry->d_name, ".tmp-"))
			continue;
		assert_no_error(image_open(rig_path(r, entry->d_name), &image));
		assert_no_error(image_verify(image));
		image_close(image);
		rig_remove(rig_path(r, entry->d_name));
	}
	closedir(dir);
	sweep(r->dir); // the lock has gone with its holder
	assert_int_equal(rig_count(r->dir, NULL), 0);
}

static void killed_while_publishing_it_leaves_whole_images_and_what_can_be_swept(void **state)
{
	struct rig *r = *state;
	struct image *image;
	u32 unfinished = 0;

	rig_fill(r, 10);
	assert_no_error(rig_create(r, NULL, &image));
	// A round that never got into the middle of one has shown nothing.
	for (u32 i = 0; i < 30 || (i < 1000 && unfinished < 10); i++) {
		kill_while_publishing(r, image, i * 7919);
		check_what_is_left(r, &unfinished);
	}
	image_close(image);
	assert_true(unfinished >= 10);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(a_published_image_opens_as_what_was_saved),
		WITH_RIG(a_name_that_is_taken_stays_what_it_is),
		WITH_RIG(whatever_has_the_name_is_in_the_way),
		WITH_RIG(names_that_lead_nowhere_are_errors),
		WITH_RIG(an_image_in_memory_is_copied_with_its_holes),
		WITH_RIG(an_opened_image_can_be_published_again),
		WITH_RIG(an_image_stays_usable_when_its_directory_is_removed),
		WITH_RIG(of_those_that_race_for_a_name_one_gets_it),
		WITH_RIG(what_is_being_published_is_not_swept_away),
		WITH_RIG(an_image_that_comes_and_goes_is_found_whole_or_not_at_all),
		WITH_RIG(killed_while_publishing_it_leaves_whole_images_and_what_can_be_swept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
