// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/vcpu_thread.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "machine/internal.h"
#include "machine/step.h"
#include "machine/watch_internal.h"

/* Nobody else's, and no real-time signal: those get lost where the user has too many of them pending. */
#define KICK_SIGNAL SIGURG

/* Exists to interrupt KVM_RUN; there is nothing to do in it. */
static void on_kick(int sig)
{
	(void)sig;
}

static void install_kick_handler(void)
{
	struct sigaction action = { .sa_handler = on_kick };

	sigemptyset(&action.sa_mask);
	sigaction(KICK_SIGNAL, &action, NULL);
}

/* A string instruction's exit carries several accesses of one size. */
static void handle_port_io(struct vcpu_thread *t)
{
	struct kvm_run *run = t->vcpu.run;
	u8 *data = (u8 *)run + run->io.data_offset;
	struct bus *ports = &t->machine->ports;

	for (u32 i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(ports, run->io.port, data, run->io.size);
		else
			bus_read(ports, run->io.port, data, run->io.size);
	}
}

static void handle_mmio(struct vcpu_thread *t)
{
	struct kvm_run *run = t->vcpu.run;

	if (run->mmio.is_write && watch_take_write(t))
		return;
	if (run->mmio.is_write)
		bus_write(&t->machine->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		bus_read(&t->machine->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

/* Whether it was this thread's own access that ended the guest: the one whose reason is Shutdown. */
static enum verdict after_access(struct vcpu_thread *t)
{
	struct machine *m = t->machine;
	u32 end = __atomic_load_n(&m->guest_end, __ATOMIC_ACQUIRE);

	if (end == GUEST_RUNS || m->guest_end_tid != gettid())
		return VERDICT_GO_ON;
	if (end == GUEST_RESET)
		machine_set_detail(m, "the guest reset the machine through the %s (vCPU %u)", m->reset_by,
				   t->index);
	else
		machine_set_detail(m, "the guest powered off (vCPU %u)", t->index);
	return VERDICT_SHUTDOWN;
}

static enum verdict fatal(struct vcpu_thread *t)
{
	char what[384];

	vcpu_describe_exit(&t->vcpu, what, sizeof(what));
	machine_set_detail(t->machine, "vCPU %u: %s", t->index, what);
	return VERDICT_FATAL;
}

static enum verdict handle_exit(struct vcpu_thread *t)
{
	struct kvm_run *run = t->vcpu.run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_port_io(t);
		return after_access(t);
	case KVM_EXIT_MMIO:
		handle_mmio(t);
		return after_access(t);
	case KVM_EXIT_IOAPIC_EOI:
		machine_ioapic_eoi(t->machine, run->eoi.vector);
		return VERDICT_GO_ON;
	case KVM_EXIT_HLT:
	case KVM_EXIT_INTR:
		return VERDICT_GO_ON;
	case KVM_EXIT_DEBUG: // a step's end; and the last one may come out after stepping was turned off
		watch_take_debug(t);
		return VERDICT_GO_ON;
	case KVM_EXIT_INTERNAL_ERROR:
		return watch_take_failure(t) ? VERDICT_GO_ON : fatal(t);
	default: // triple fault, failed entry, internal error, and what nobody expects
		return fatal(t);
	}
}

struct error *vcpu_thread_enter(struct vcpu_thread *t, enum verdict *verdict)
{
	enum vcpu_run_result result;

	watch_note_entry(t);
	__atomic_store_n(&t->in_guest, true, __ATOMIC_RELAXED);

	struct error *err = vcpu_run(&t->vcpu, &result);

	__atomic_store_n(&t->in_guest, false, __ATOMIC_RELAXED);
	if (err)
		return err;
	t->exit_pending = result == VCPU_EXIT;
	if (t->exit_pending)
		*verdict = handle_exit(t);
	return NULL;
}

/* A split access comes out several times before its instruction has retired. */
struct error *vcpu_thread_retire(struct vcpu_thread *t, enum verdict *verdict)
{
	struct error *err = NULL;

	while (!err && t->exit_pending && *verdict == VERDICT_GO_ON) {
		vcpu_request_exit(&t->vcpu);
		err = vcpu_thread_enter(t, verdict);
	}
	return err ? err : watch_undo(t);
}

/* The fault that tests inject. It stops where a vCPU that its kick does not reach would be. */
static void be_deaf(const struct vcpu_thread *t)
{
	static const struct timespec slice = { .tv_nsec = NSEC_PER_MSEC };

	while (clock_now_ns() < __atomic_load_n(&t->deaf_until_ns, __ATOMIC_RELAXED) &&
	       !machine_is_stopping(t->machine))
		nanosleep(&slice, NULL);
}

/*
 * As a batch job a thread that is woken does not push aside who runs, the thread that wakes it above all: a vCPU
 * that never sleeps would keep that, and the vCPUs behind it, waiting for whole time slices. For the park alone,
 * since the guest's own wake-ups are to come as soon as can be.
 */
static void set_batch(const struct vcpu_thread *t, bool on)
{
	static const struct sched_param none;

	if (t->is_crowding)
		sched_setscheduler(0, on ? SCHED_BATCH : SCHED_OTHER, &none);
}

static void end_hurry(struct vcpu_thread *t)
{
	if (!__atomic_load_n(&t->is_hurried, __ATOMIC_ACQUIRE))
		return;
	__atomic_store_n(&t->is_hurried, false, __ATOMIC_RELAXED);
	setpriority(PRIO_PROCESS, 0, t->nice);
}

/* Its exit has retired: the vCPU stands between two instructions until the thaw. */
static struct error *park(struct vcpu_thread *t, enum verdict *verdict)
{
	struct error *err = NULL;

	end_hurry(t);
	set_batch(t, true);
	timer_note(&t->vcpu, &t->timer);
	for (u32 generation = park_wanted(t->park); generation; generation = park_wait(t->park)) {
		if (__atomic_load_n(&t->deaf_until_ns, __ATOMIC_RELAXED))
			be_deaf(t);
		if (t->step.wanted && !err && *verdict == VERDICT_GO_ON)
			err = vcpu_thread_step(t, verdict);
		park_ack(t->park, generation);
	}
	set_batch(t, false);
	timer_resume(&t->vcpu, &t->timer, machine_was_long_frozen(t->machine));
	return err;
}

static struct error *run_until_end(struct vcpu_thread *t, enum verdict *verdict)
{
	struct error *err = NULL;

	*verdict = VERDICT_GO_ON;
	// Of a machine that was saved: nothing else has a timer before it has run.
	timer_resume(&t->vcpu, &t->timer, machine_was_long_frozen(t->machine));
	while (!err && *verdict == VERDICT_GO_ON && !machine_is_stopping(t->machine)) {
		if (park_is_wanted(t->park)) {
			err = vcpu_thread_retire(t, verdict);
			if (!err && *verdict == VERDICT_GO_ON)
				err = park(t, verdict);
			continue;
		}
		end_hurry(t); // of a freeze that was given up before it parked
		if (watch_wants_attention(t)) {
			err = vcpu_thread_retire(t, verdict);
			if (!err && *verdict == VERDICT_GO_ON)
				watch_wait(t);
			continue;
		}
		vcpu_clear_exit(&t->vcpu);
		// A wish that came before this is seen here; one that comes later has set immediate_exit again.
		if (!park_is_wanted(t->park) && !machine_is_stopping(t->machine))
			err = vcpu_thread_enter(t, verdict);
	}
	return err;
}

static enum exit_reason run(struct vcpu_thread *t)
{
	enum verdict verdict;
	struct error *err = run_until_end(t, &verdict);

	if (err) {
		machine_set_detail(t->machine, "vCPU %u: %s", t->index, error_message(err));
		error_destroy(err);
		return EXIT_RUN_ERROR;
	}
	switch (verdict) {
	case VERDICT_SHUTDOWN:
		return EXIT_SHUTDOWN;
	case VERDICT_FATAL:
		return EXIT_FATAL;
	default:
		return machine_stop_reason(t->machine);
	}
}

/* vCPUs leave no processor to the other threads; and their policy has not been chosen by anybody. */
static bool is_crowding(const struct machine *m)
{
	cpu_set_t processors;

	return sched_getscheduler(0) == SCHED_OTHER && sched_getaffinity(0, sizeof(processors), &processors) == 0 &&
	       m->vcpu_count >= (u32)CPU_COUNT(&processors);
}

/* To its peers, whatever ended an AP is an ExternalKill: the reasons are the BSP's, the detail tells more. */
static void *vcpu_thread_main(void *arg)
{
	struct vcpu_thread *t = arg;
	struct machine *m = t->machine;

	// Either a kick finds the thread running and signals it, or run() finds the wish that came before.
	t->self = pthread_self();
	t->tid = gettid();
	t->nice = getpriority(PRIO_PROCESS, 0);
	t->is_crowding = is_crowding(m);
	__atomic_store_n(&t->running, true, __ATOMIC_SEQ_CST);

	enum exit_reason reason = run(t);

	if (t->index == 0) {
		m->result.reason = reason;
		m->result.run_ns = clock_now_ns() - m->start_ns;
		log_line("BSP: loop exit reason=%s", exit_reason_name(reason));
		machine_stop(m, reason);
	} else {
		machine_stop(m, EXIT_EXTERNAL_KILL);
	}
	// After the stop: a rendezvous that waits for this thread finds the reason to give up.
	park_leave_for_good(t->park);
	machine_vcpu_ended(m);
	return NULL;
}

struct error *vcpu_thread_start(struct vcpu_thread *t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install_kick_handler);

	// A thread starts with its creator's mask; only the kick is for it.
	sigset_t mask, old;

	sigfillset(&mask);
	sigdelset(&mask, KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &mask, &old);

	int e = pthread_create(&t->thread, NULL, vcpu_thread_main, t);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (e)
		return error_create(ERROR_OS, "cannot start the thread of vCPU %u: %s", t->index, strerror(e));

	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", t->index % 1000);
	pthread_setname_np(t->thread, name);
	t->created = true;
	return NULL;
}

void vcpu_thread_kick(struct vcpu_thread *t)
{
	vcpu_request_exit(&t->vcpu);
	__atomic_fetch_add(&t->kicks, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&t->running, __ATOMIC_SEQ_CST))
		pthread_kill(t->self, KICK_SIGNAL);
}

/* The mark comes last: a thread that has seen none has what is its own still to get back. */
void vcpu_thread_hurry(struct vcpu_thread *t)
{
	if (__atomic_load_n(&t->running, __ATOMIC_SEQ_CST) && !setpriority(PRIO_PROCESS, (id_t)t->tid, -20))
		__atomic_store_n(&t->is_hurried, true, __ATOMIC_RELEASE);
}

void vcpu_thread_join(struct vcpu_thread *t)
{
	if (!t->created)
		return;
	pthread_join(t->thread, NULL);
	t->created = false;
}
