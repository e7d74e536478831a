// SPDX-License-Identifier: GPL-2.0-or-later
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "freeze/gate.h"

static void wait_for(sem_t *event)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 60;
	assert_int_equal(sem_timedwait(event, &limit), 0);
}

static void try_acquire_on_a_free_gate_succeeds_and_holds(void **state)
{
	struct gate gate = { 0 };
	GATE_GUARD struct gate_guard guard = { 0 };

	assert_false(gate_is_held(&gate));
	assert_true(gate_try_acquire(&gate, &guard));
	assert_true(gate_is_held(&gate));
}

static void try_acquire_on_a_held_gate_fails_and_changes_nothing(void **state)
{
	struct gate gate = { 0 };
	GATE_GUARD struct gate_guard holder = { 0 };

	assert_true(gate_try_acquire(&gate, &holder));
	for (int i = 0; i < 3; i++) {
		GATE_GUARD struct gate_guard guard = { 0 };

		assert_false(gate_try_acquire(&gate, &guard));
		assert_null(guard.gate);
		assert_true(gate_is_held(&gate));
	}
	// Nor does the end of the rejected ones' scope open it.
	assert_true(gate_is_held(&gate));
	assert_false(gate_try_acquire(&gate, &holder));
	assert_ptr_equal(holder.gate, &gate);
}

static void scope_end_releases_the_gate_for_the_next_acquire(void **state)
{
	struct gate gate = { 0 };

	{
		GATE_GUARD struct gate_guard guard = { 0 };

		assert_true(gate_try_acquire(&gate, &guard));
	}
	assert_false(gate_is_held(&gate));

	GATE_GUARD struct gate_guard second = { 0 };

	assert_true(gate_try_acquire(&gate, &second));
	assert_true(gate_is_held(&gate));
}

// Returns from the middle of the scope when it is told to.
static int visit(struct gate *gate, bool early)
{
	GATE_GUARD struct gate_guard guard = { 0 };

	if (!gate_try_acquire(gate, &guard))
		return -1;
	if (early)
		return 1;
	return gate_is_held(gate) ? 2 : -2;
}

static void an_early_return_releases_the_gate(void **state)
{
	struct gate gate = { 0 };

	assert_int_equal(visit(&gate, true), 1);
	assert_false(gate_is_held(&gate));
	assert_int_equal(visit(&gate, false), 2);
	assert_false(gate_is_held(&gate));
}

// What thaws: a guard of its own, declared after the gate's.
struct thaw_guard {
	const struct gate *gate;
	int *thawed_under_gate;
};

static void thaw_guard_release(struct thaw_guard *guard)
{
	*guard->thawed_under_gate = gate_is_held(guard->gate) ? 1 : -1;
}

struct victim {
	struct gate gate;
	sem_t inside;
	int thawed_under_gate;
};

static void *hold_until_cancelled(void *arg)
{
	struct victim *v = arg;
	GATE_GUARD struct gate_guard guard = { 0 };

	if (!gate_try_acquire(&v->gate, &guard)) {
		sem_post(&v->inside);
		return NULL;
	}

	CLEANUP(thaw_guard_release)
	struct thaw_guard thaw = { &v->gate, &v->thawed_under_gate };

	sem_post(&v->inside);
	for (;;)
		pause();
	return NULL;
}

static void cancel_in_the_middle(struct victim *v)
{
	pthread_t thread;
	void *result;

	sem_init(&v->inside, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, hold_until_cancelled, v), 0);
	wait_for(&v->inside);
	assert_true(gate_is_held(&v->gate));
	pthread_cancel(thread);
	pthread_join(thread, &result);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	sem_destroy(&v->inside);
}

// Without -fexceptions the guards' scope ends silently, and no freeze is possible ever after.
static void cancelling_the_thread_in_the_scope_releases_the_gate(void **state)
{
	struct victim v = { 0 };

	cancel_in_the_middle(&v);
	assert_false(gate_is_held(&v.gate));
	cancel_in_the_middle(&v);
	assert_false(gate_is_held(&v.gate));
}

static void what_is_declared_after_the_guard_is_unwound_before_the_gate_opens(void **state)
{
	struct victim v = { 0 };

	{
		GATE_GUARD struct gate_guard guard = { 0 };

		assert_true(gate_try_acquire(&v.gate, &guard));

		CLEANUP(thaw_guard_release)
		struct thaw_guard thaw = { &v.gate, &v.thawed_under_gate };
	}
	assert_int_equal(v.thawed_under_gate, 1);
	assert_false(gate_is_held(&v.gate));
	v.thawed_under_gate = 0;
	cancel_in_the_middle(&v);
	assert_int_equal(v.thawed_under_gate, 1);
	assert_false(gate_is_held(&v.gate));
}

static void sequential_acquire_and_release_cycles(void **state)
{
	struct gate gate = { 0 };

	for (int i = 0; i < 10; i++) {
		struct gate_guard guard = { 0 };

		assert_true(gate_try_acquire(&gate, &guard));
		assert_true(gate_is_held(&gate));
		gate_guard_release(&guard);
		assert_false(gate_is_held(&gate));
	}
}

static void a_guard_that_was_released_does_not_open_the_next_holders_gate(void **state)
{
	struct gate gate = { 0 };
	GATE_GUARD struct gate_guard second = { 0 };

	{
		GATE_GUARD struct gate_guard first = { 0 };

		assert_true(gate_try_acquire(&gate, &first));
		gate_guard_release(&first);
		assert_true(gate_try_acquire(&gate, &second));
	}
	assert_true(gate_is_held(&gate));
}

static void gates_of_two_machines_are_independent(void **state)
{
	struct gate gate = { 0 }, other_gate = { 0 };
	GATE_GUARD struct gate_guard guard = { 0 };

	assert_true(gate_try_acquire(&gate, &guard));
	assert_false(gate_is_held(&other_gate));

	GATE_GUARD struct gate_guard other_guard = { 0 };

	assert_true(gate_try_acquire(&other_gate, &other_guard));
	gate_guard_release(&guard);
	assert_true(gate_is_held(&other_gate));
}

enum { ROUNDS = 1000 };

struct contest {
	struct gate gate;
	u32 arrived; // atomic
	u32 holders, most_holders, won; // atomic
	u64 held; // plain: the gate is what orders its changes
};

// Both try in the same instant.
static void meet(struct contest *c, u32 round)
{
	__atomic_add_fetch(&c->arrived, 1, __ATOMIC_RELAXED);
	for (u32 looks = 1; __atomic_load_n(&c->arrived, __ATOMIC_RELAXED) < 2 * round; looks++)
		if (looks % 4096 == 0)
			sched_yield();
}

static void enter(struct contest *c)
{
	u32 now = __atomic_add_fetch(&c->holders, 1, __ATOMIC_RELAXED);
	u32 most = __atomic_load_n(&c->most_holders, __ATOMIC_RELAXED);

	while (now > most && !__atomic_compare_exchange_n(&c->most_holders, &most, now, true, __ATOMIC_RELAXED,
							  __ATOMIC_RELAXED))
		;
	c->held++;
	sched_yield();
	__atomic_sub_fetch(&c->holders, 1, __ATOMIC_RELAXED);
}

static void *contend(void *arg)
{
	struct contest *c = arg;

	for (u32 round = 1; round <= ROUNDS; round++) {
		GATE_GUARD struct gate_guard guard = { 0 };

		meet(c, round);
		if (gate_try_acquire(&c->gate, &guard)) {
			__atomic_add_fetch(&c->won, 1, __ATOMIC_RELAXED);
			enter(c);
		} else {
			gate_is_held(&c->gate); // any thread may ask at any time
		}
	}
	return NULL;
}

// With TSan it also shows that what was done under one guard is there under the next.
static void two_threads_a_thousand_times_have_at_most_one_holder(void **state)
{
	struct contest c = { 0 };
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, contend, &c), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(c.most_holders, 1);
	assert_in_range(c.won, ROUNDS, 2 * ROUNDS);
	assert_int_equal(c.held, c.won);
	assert_false(gate_is_held(&c.gate));
}

// TSan's own words for the gate may not be entered twice.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
enum { TRAP_FLAG = 0x100 };

// A signal's handler has no argument.
static struct {
	struct gate gate;
	struct gate_guard guard;
	int instructions; // until the intruder comes
	bool came, holds;
} intruder;

static void single_stepped(int signal, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	if (intruder.instructions--)
		return;
	intruder.came = true;
	intruder.holds = gate_try_acquire(&intruder.gate, &intruder.guard);
	u->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

static void set_trap_flag(bool on)
{
	u64 flags = __builtin_ia32_readeflags_u64();

	__builtin_ia32_writeeflags_u64(on ? flags | TRAP_FLAG : flags & ~(u64)TRAP_FLAG);
}

// What two threads show by chance alone: nothing comes between the swap's reading and its writing.
static void an_intruder_between_any_two_instructions_leaves_one_holder(void **state)
{
	struct sigaction action = { .sa_sigaction = single_stepped, .sa_flags = SA_SIGINFO }, before;
	int at = 0;

	sigaction(SIGTRAP, &action, &before);
	for (;; at++) {
		struct gate_guard guard = { 0 };

		memset(&intruder, 0, sizeof(intruder));
		intruder.instructions = at;
		set_trap_flag(true);

		bool holds = gate_try_acquire(&intruder.gate, &guard);

		set_trap_flag(false);
		if (!intruder.came)
			break;
		assert_int_equal(holds + intruder.holds, 1);
		assert_true(gate_is_held(&intruder.gate));
		gate_guard_release(holds ? &guard : &intruder.guard);
		assert_false(gate_is_held(&intruder.gate));
	}
	sigaction(SIGTRAP, &before, NULL);
	assert_in_range(at, 5, 10000);
}
#else
static void an_intruder_between_any_two_instructions_leaves_one_holder(void **state)
{
	skip();
}
#endif

struct rejection {
	struct gate gate;
	u64 written; // plain
	bool tried; // atomic, and says nothing of the order of others
	sem_t done;
};

static void *write_and_hold(void *arg)
{
	struct rejection *r = arg;
	GATE_GUARD struct gate_guard guard = { 0 };

	r->written = 42;

	bool holds = gate_try_acquire(&r->gate, &guard);

	__atomic_store_n(&r->tried, true, __ATOMIC_RELAXED);
	if (holds)
		wait_for(&r->done);
	return NULL;
}

// The other half of the swap's order; only TSan can tell.
static void who_is_rejected_sees_what_the_holder_did_before(void **state)
{
	struct rejection r = { 0 };
	struct gate_guard guard = { 0 };
	u64 deadline = clock_deadline_ns(60 * NSEC_PER_SEC);
	pthread_t thread;

	sem_init(&r.done, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, write_and_hold, &r), 0);
	while (!__atomic_load_n(&r.tried, __ATOMIC_RELAXED) && clock_now_ns() < deadline)
		sched_yield();
	assert_false(gate_try_acquire(&r.gate, &guard));
	assert_int_equal(r.written, 42);
	sem_post(&r.done);
	pthread_join(thread, NULL);
	sem_destroy(&r.done);
	assert_false(gate_is_held(&r.gate));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(try_acquire_on_a_free_gate_succeeds_and_holds),
		cmocka_unit_test(try_acquire_on_a_held_gate_fails_and_changes_nothing),
		cmocka_unit_test(scope_end_releases_the_gate_for_the_next_acquire),
		cmocka_unit_test(an_early_return_releases_the_gate),
		cmocka_unit_test(cancelling_the_thread_in_the_scope_releases_the_gate),
		cmocka_unit_test(what_is_declared_after_the_guard_is_unwound_before_the_gate_opens),
		cmocka_unit_test(sequential_acquire_and_release_cycles),
		cmocka_unit_test(a_guard_that_was_released_does_not_open_the_next_holders_gate),
		cmocka_unit_test(gates_of_two_machines_are_independent),
		cmocka_unit_test(two_threads_a_thousand_times_have_at_most_one_holder),
		cmocka_unit_test(an_intruder_between_any_two_instructions_leaves_one_holder),
		cmocka_unit_test(who_is_rejected_sees_what_the_holder_did_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
