/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Single steps of one vCPU while every other one stays parked.
 * Depends on vcpu_thread.h. Runs on the vCPU's own thread, which is parked before and after.
 * Interrupts are held back; a vCPU that halts, or has not been started, ends the steps early.
 */
#ifndef MACHINE_STEP_H
#define MACHINE_STEP_H

#include "machine/vcpu_thread.h"

/* Carries out t->step. An error is the vCPU's end, as in running it; one of stepping goes to t->step.err. */
MUST_CHECK struct error *vcpu_thread_step(struct vcpu_thread *t, enum verdict *verdict);

#endif
