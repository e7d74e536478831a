/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the coordinator does with a machine that it stops: its rendezvous, its clocks, its vCPUs' state.
 * Depends on machine.h and freeze. For the coordinator's thread, but where it says otherwise.
 * But for the rendezvous itself, everything here is for a machine whose vCPUs are all parked.
 */
#ifndef MACHINE_FROZEN_H
#define MACHINE_FROZEN_H

#include <linux/kvm.h>

#include "freeze/rendezvous.h"
#include "kvm/memory.h"
#include "machine/machine.h"

/* Any thread; rendezvous.h says what it may do with it. */
struct rendezvous *machine_rendezvous(struct machine *m);

/*
 * The rendezvous waits for vCPUs that others keep from their turn: each of them is the first to have a processor until
 * it has parked, as far as the user may ask for that.
 */
void machine_hurry(struct machine *m);

/* Where the vCPU was when last seen, in words, without waiting for it: its last exit, its rip then. Any time. */
void machine_describe_cpu(struct machine *m, u32 cpu, char *buffer, size_t size);

/* The guest's time stands from the one to the other. */
void machine_stop_clocks(struct machine *m);
void machine_resume_clocks(struct machine *m);
/* False, after the first freeze, where the guest's time does not stand still in all its clocks. */
bool machine_clocks_are_exact(const struct machine *m);
/* kvmclock as it stands, ns. */
u64 machine_clock_ns(const struct machine *m);

/* ERROR_INVALID: no such CPU. */
MUST_CHECK struct error *machine_get_regs(struct machine *m, u32 cpu, struct kvm_regs *regs,
					  struct kvm_sregs *sregs);
/* Of one model-specific register; also ERROR_UNSUPPORTED, for one that this KVM does not tell. */
MUST_CHECK struct error *machine_get_msr(struct machine *m, u32 cpu, u32 index, u64 *ret);
const struct guest_memory *machine_memory(const struct machine *m);

/*
 * Gives a vCPU count (at least 1) instructions to execute, and sets it going: wait for the rendezvous to be
 * complete again, then machine_end_step(), which tells how many were executed. Fewer: the vCPU halted, or waits
 * to be started, or the steps were cancelled meanwhile.
 */
MUST_CHECK struct error *machine_begin_step(struct machine *m, u32 cpu, u32 count);
void machine_cancel_step(struct machine *m, u32 cpu);
MUST_CHECK struct error *machine_end_step(struct machine *m, u32 cpu, u32 *executed);

/* For tests: the vCPU does not acknowledge a freeze until then (clock_now_ns()). Any thread. */
MUST_CHECK struct error *machine_make_deaf(struct machine *m, u32 cpu, u64 until_ns);

#endif
