// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/step.h"

#include "machine/internal.h"

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

/* Until the one instruction is over: an access to a device comes out before that. */
static struct error *step_once(struct vcpu_thread *t, enum verdict *verdict)
{
	for (;;) {
		vcpu_clear_exit(&t->vcpu);
		if (is_cancelled(t))
			return NULL;

		struct error *err = vcpu_thread_enter(t, verdict);

		if (err || *verdict != VERDICT_GO_ON)
			return err;
		if (t->exit_pending && t->vcpu.run->exit_reason == KVM_EXIT_DEBUG) {
			t->exit_pending = false;
			t->step.done++;
			return NULL;
		}
	}
}

struct error *vcpu_thread_step(struct vcpu_thread *t, enum verdict *verdict)
{
	struct vcpu_step *step = &t->step;
	struct error *err = NULL;

	timer_resume(&t->vcpu, &t->timer, false);
	step->err = vcpu_set_guest_debug(
		&t->vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ, NULL);
	while (!err && !step->err && *verdict == VERDICT_GO_ON && step->done < step->wanted &&
	       !is_cancelled(t) && can_execute(t))
		err = step_once(t, verdict);

	struct error *off = vcpu_set_guest_debug(&t->vcpu, 0, NULL);

	if (!step->err)
		step->err = off;
	else
		error_destroy(off);
	if (!err)
		err = vcpu_thread_retire(t, verdict);
	timer_note(&t->vcpu, &t->timer);
	return err;
}
