/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads in the place of vCPUs: they "run" asleep or spinning, are kicked, park, and may be held up on the way.
 * Depends on cmocka and core/freeze. What they write is plain memory wherever the rendezvous is what orders it,
 * so that TSan sees an order that is missing.
 */
#ifndef TESTS_FAKE_VCPUS_H
#define TESTS_FAKE_VCPUS_H

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "freeze/park.h"

enum { THREADS = 4 };

#define LONG (60 * NSEC_PER_SEC)

struct fake_vcpu {
	struct rig *rig;
	struct park_slot *slot;
	pthread_t thread;
	u32 index;
	int kick_fd; // what it blocks in while it "runs"
	bool immediate_exit; // atomic
	bool held; // atomic: it acknowledges nothing before let_go() is called
	bool quit; // atomic
	u64 entered; // atomic: times that it "ran"
	sem_t released;
	u64 runs, seen; // plain: its registers, so to say
	u64 result, jobs; // plain: of what it does in its park
	bool joined;
};

struct rig {
	struct rendezvous r;
	struct loop loop;
	struct park_slot slots[THREADS];
	struct fake_vcpu vcpus[THREADS];
	u64 word; // plain: the machine's memory
	u64 job; // plain
};

static inline void fine(struct error *err)
{
	if (err)
		fail_msg("%s", error_message(err));
}

static inline void fails(struct error *err, enum error_code code, const char *message)
{
	assert_non_null(err);
	assert_int_equal(error_code(err), code);
	assert_non_null(strstr(error_message(err), message));
	error_destroy(err);
}

static inline void wait_for(sem_t *event)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 60;
	assert_int_equal(sem_timedwait(event, &limit), 0);
}

static inline void kick(void *ctx, u32 slot)
{
	struct rig *rig = ctx;

	__atomic_store_n(&rig->vcpus[slot].immediate_exit, true, __ATOMIC_SEQ_CST);
	eventfd_write(rig->vcpus[slot].kick_fd, 1);
}

static const struct rendezvous_ops fake_vcpu_ops = { kick };

static inline void park(struct fake_vcpu *v)
{
	for (u32 g = park_wanted(v->slot); g; g = park_wait(v->slot)) {
		while (__atomic_load_n(&v->held, __ATOMIC_ACQUIRE))
			sem_wait(&v->released);
		if (__atomic_load_n(&v->quit, __ATOMIC_ACQUIRE))
			return;
		v->result = v->rig->job * 10 + v->index;
		v->jobs++;
		park_ack(v->slot, g);
	}
}

// Odd ones spin, even ones sleep until they are kicked.
static inline void run(struct fake_vcpu *v)
{
	eventfd_t count;

	v->runs++;
	v->seen = v->rig->word;
	__atomic_add_fetch(&v->entered, 1, __ATOMIC_RELAXED);
	if (!(v->index & 1))
		eventfd_read(v->kick_fd, &count);
	else
		while (!__atomic_load_n(&v->immediate_exit, __ATOMIC_RELAXED))
			sched_yield();
}

static inline void *live(void *arg)
{
	struct fake_vcpu *v = arg;

	while (!__atomic_load_n(&v->quit, __ATOMIC_ACQUIRE)) {
		if (park_is_wanted(v->slot))
			park(v);
		(void)__atomic_exchange_n(&v->immediate_exit, false, __ATOMIC_SEQ_CST);
		if (park_is_wanted(v->slot))
			continue;
		if (!__atomic_load_n(&v->quit, __ATOMIC_SEQ_CST))
			run(v);
	}
	park_leave_for_good(v->slot);
	return NULL;
}

static inline int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	fine(loop_init(&rig->loop));
	fine(rendezvous_init(&rig->r, rig->slots, THREADS, &fake_vcpu_ops, rig));
	for (u32 i = 0; i < THREADS; i++) {
		struct fake_vcpu *v = &rig->vcpus[i];

		*v = (struct fake_vcpu){ .rig = rig, .slot = &rig->slots[i], .index = i };
		v->kick_fd = eventfd(0, EFD_CLOEXEC);
		sem_init(&v->released, 0, 0);
		assert_int_equal(pthread_create(&v->thread, NULL, live, v), 0);
	}
	*state = rig;
	return 0;
}

static inline void let_go(struct fake_vcpu *v)
{
	__atomic_store_n(&v->held, false, __ATOMIC_RELEASE);
	sem_post(&v->released);
}

static inline void quit(struct fake_vcpu *v)
{
	__atomic_store_n(&v->quit, true, __ATOMIC_SEQ_CST);
	kick(v->rig, v->index);
}

static inline int teardown(void **state)
{
	struct rig *rig = *state;

	rendezvous_end(&rig->r);
	for (u32 i = 0; i < THREADS; i++) {
		struct fake_vcpu *v = &rig->vcpus[i];

		let_go(v);
		quit(v);
		if (!v->joined)
			pthread_join(v->thread, NULL);
		close(v->kick_fd);
		sem_destroy(&v->released);
	}
	rendezvous_deinit(&rig->r);
	loop_deinit(&rig->loop);
	free(rig);
	return 0;
}

static inline void hold(struct fake_vcpu *v)
{
	__atomic_store_n(&v->held, true, __ATOMIC_RELEASE);
}

static inline struct error *wait_for_all(struct rig *rig, u64 timeout_ns)
{
	return rendezvous_wait(&rig->r, &rig->loop, timeout_ns, NULL, NULL);
}

static inline void freeze(struct rig *rig)
{
	rendezvous_begin(&rig->r);
	fine(wait_for_all(rig, LONG));
}

// Until each thread has left its park and run since.
static inline void thaw_and_wait_until_all_run(struct rig *rig)
{
	u64 entered[THREADS], deadline = clock_deadline_ns(LONG);

	for (u32 i = 0; i < THREADS; i++)
		entered[i] = __atomic_load_n(&rig->vcpus[i].entered, __ATOMIC_RELAXED);
	rendezvous_end(&rig->r);
	for (u32 i = 0; i < THREADS; i++)
		while (__atomic_load_n(&rig->vcpus[i].entered, __ATOMIC_RELAXED) == entered[i]) {
			assert_true(clock_now_ns() < deadline);
			sched_yield();
		}
}

#endif
