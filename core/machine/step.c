// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/step.h"

#include <string.h>

#include "kvm/vcpu_step.h"
#include "machine/internal.h"
#include "machine/watch_internal.h"

/* A vCPU in any other state would wait in KVM_RUN for something that cannot come now. */
static bool can_execute(struct vcpu_thread *t)
{
	u32 state = KVM_MP_STATE_RUNNABLE;

	t->step.err = vcpu_get_mp_state(&t->vcpu, &state);
	return !t->step.err && state == KVM_MP_STATE_RUNNABLE;
}

static bool is_cancelled(const struct vcpu_thread *t)
{
	return __atomic_load_n(&t->step.cancelled, __ATOMIC_SEQ_CST) || machine_is_stopping(t->machine);
}

/*
 * KVM completes an access to a device without the step's trap, where it is a write (OUT, MMIO, strings), and
 * would go on to the next instruction. So it is completed alone, and the registers tell whether that was the
 * instruction's end, or that of one repetition.
 */
static struct error *end_access(struct vcpu_thread *t, const struct kvm_regs *before, bool *over,
				enum verdict *verdict)
{
	struct kvm_regs after;
	struct error *err = vcpu_thread_retire(t, verdict);

	if (!err)
		err = vcpu_get_regs(&t->vcpu, &after);
	if (!err)
		*over = memcmp(before, &after, sizeof(after)) != 0;
	return err;
}

/* Until the one instruction is over: an access to a device comes out before that. */
static struct error *execute(struct vcpu_thread *t, const struct kvm_regs *before, enum verdict *verdict)
{
	struct error *err = NULL;
	bool over = false;

	while (!err && !over && *verdict == VERDICT_GO_ON) {
		vcpu_clear_exit(&t->vcpu);
		if (is_cancelled(t))
			return NULL;
		err = vcpu_thread_enter(t, verdict);
		if (err || *verdict != VERDICT_GO_ON || !t->exit_pending)
			continue;
		if (watch_is_blocked(t)) {
			t->step.err = watch_open_pages(t);
			if (t->step.err)
				return NULL;
			continue;
		}
		over = t->vcpu.run->exit_reason == KVM_EXIT_DEBUG;
		if (over)
			t->exit_pending = false;
		else
			err = end_access(t, before, &over, verdict);
	}
	t->step.done += over;
	return err;
}

static struct error *step_once(struct vcpu_thread *t, enum verdict *verdict)
{
	static const u32 debug = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ;
	struct kvm_regs before;
	bool halted = false;

	t->step.err = vcpu_step_halt(&t->vcpu, &t->machine->memory, &halted);
	t->step.done += halted;
	if (halted || t->step.err)
		return NULL;
	t->step.err = vcpu_get_regs(&t->vcpu, &before);
	// For each step: KVM forgets the trap flag where it has written the guest's flags itself.
	if (!t->step.err)
		t->step.err = watch_set_debug(t, debug);
	// Where it stands before an instruction that KVM cannot emulate it has said so already.
	if (!t->step.err && watch_is_blocked(t))
		t->step.err = watch_open_pages(t);
	if (t->step.err)
		return NULL;

	struct error *err = execute(t, &before, verdict);
	struct error *late = watch_close_pages(t);

	if (!t->step.err)
		t->step.err = late;
	else
		error_destroy(late);
	return err;
}

struct error *vcpu_thread_step(struct vcpu_thread *t, enum verdict *verdict)
{
	struct vcpu_step *step = &t->step;
	struct error *err = NULL;

	step->err = vcpu_withhold_interrupt(&t->vcpu);
	timer_resume(&t->vcpu, &t->timer, false);
	while (!err && !step->err && *verdict == VERDICT_GO_ON && step->done < step->wanted &&
	       !is_cancelled(t) && can_execute(t))
		err = step_once(t, verdict);

	struct error *off = watch_set_debug(t, 0);

	if (!step->err)
		step->err = off;
	else
		error_destroy(off);
	if (!err)
		err = vcpu_thread_retire(t, verdict);
	timer_note(&t->vcpu, &t->timer);
	return err;
}
