// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/frozen.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "machine/internal.h"
#include "machine/watch.h"

/* From here on the guest's watchdogs are told that it was stopped. */
#define LONG_FREEZE_NS NSEC_PER_SEC

static void kick(void *ctx, u32 slot)
{
	struct machine *m = ctx;

	vcpu_thread_kick(&m->vcpus[slot]);
}

static const struct rendezvous_ops rendezvous_ops = {
	.kick = kick,
};

struct error *machine_init_freeze(struct machine *m)
{
	m->park_slots = calloc(m->vcpu_count, sizeof(*m->park_slots));
	if (!m->park_slots)
		return error_no_memory();

	struct error *err =
		rendezvous_init(&m->rendezvous, m->park_slots, m->vcpu_count, &rendezvous_ops, m);

	if (err) {
		free(m->park_slots);
		m->park_slots = NULL;
		return err;
	}
	for (u32 i = 0; i < m->vcpu_count; i++)
		m->vcpus[i].park = &m->park_slots[i];
	return clocks_init(&m->clocks, &m->vm, m->cpuid_options.tsc_khz, m->vcpu_count);
}

void machine_deinit_freeze(struct machine *m)
{
	if (!m->park_slots)
		return;
	clocks_deinit(&m->clocks);
	rendezvous_deinit(&m->rendezvous);
	free(m->park_slots);
}

struct rendezvous *machine_rendezvous(struct machine *m)
{
	return &m->rendezvous;
}

void machine_describe_cpu(struct machine *m, u32 cpu, char *buffer, size_t size)
{
	const struct vcpu_thread *t = &m->vcpus[cpu];
	char what[256];

	vcpu_describe_last_exit(&t->vcpu, what, sizeof(what));
	snprintf(buffer, size, "vCPU %u is in %s; its last exit was %s", cpu,
		 __atomic_load_n(&t->in_guest, __ATOMIC_RELAXED) ? "KVM_RUN" : "an exit's handling", what);
}

static const struct vcpu *vcpu_of(void *ctx, u32 index)
{
	const struct machine *m = ctx;

	return &m->vcpus[index].vcpu;
}

void machine_hurry(struct machine *m)
{
	for (u32 i = 0; i < m->vcpu_count; i++)
		if (rendezvous_is_missing(&m->rendezvous, i))
			vcpu_thread_hurry(&m->vcpus[i]);
}

void machine_stop_clocks(struct machine *m)
{
	clocks_stop(&m->clocks, vcpu_of, m);
}

void machine_resume_clocks(struct machine *m)
{
	bool is_long = clock_now_ns() - m->clocks.stopped_ns >= LONG_FREEZE_NS;

	__atomic_store_n(&m->long_frozen, is_long, __ATOMIC_RELAXED);
	clocks_go(&m->clocks, vcpu_of, m);
	for (u32 i = 0; i < m->vcpu_count; i++)
		timer_rewind(&m->vcpus[i].vcpu, &m->vcpus[i].timer);
	// After the local APICs were set, or it would be lost again.
	if (m->replay_due)
		virtio_replay(&m->console.virtio);
	m->replay_due = false;
}

bool machine_clocks_are_exact(const struct machine *m)
{
	return clocks_are_exact(&m->clocks);
}

u64 machine_clock_ns(const struct machine *m)
{
	return m->clocks.clock_ns;
}

static struct error *check_cpu(const struct machine *m, u32 cpu)
{
	if (cpu < m->vcpu_count)
		return NULL;
	return error_create(ERROR_INVALID, "there is no CPU %u: the machine has CPUs 0 to %u", cpu,
			    m->vcpu_count - 1);
}

struct error *machine_get_regs(struct machine *m, u32 cpu, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	struct error *err = check_cpu(m, cpu);

	if (!err)
		err = vcpu_get_regs(&m->vcpus[cpu].vcpu, regs);
	if (!err)
		err = vcpu_get_sregs(&m->vcpus[cpu].vcpu, sregs);
	return err;
}

struct error *machine_get_msr(struct machine *m, u32 cpu, u32 index, u64 *ret)
{
	struct kvm_msr_entry msr = { .index = index };
	struct error *err = check_cpu(m, cpu);

	if (!err)
		err = vcpu_get_msrs(&m->vcpus[cpu].vcpu, &msr, 1);
	*ret = msr.data;
	return err;
}

const struct guest_memory *machine_memory(const struct machine *m)
{
	return &m->memory;
}

/* Time goes on while an instruction is executed: one that reads a clock must not see it jump. */
struct error *machine_begin_step(struct machine *m, u32 cpu, u32 count)
{
	struct error *err = check_cpu(m, cpu);

	if (err)
		return err;
	machine_refresh_watches(m);
	machine_resume_clocks(m);
	m->vcpus[cpu].step = (struct vcpu_step){ .wanted = count };
	rendezvous_again(&m->rendezvous);
	return NULL;
}

void machine_cancel_step(struct machine *m, u32 cpu)
{
	__atomic_store_n(&m->vcpus[cpu].step.cancelled, true, __ATOMIC_SEQ_CST);
	vcpu_thread_kick(&m->vcpus[cpu]);
}

struct error *machine_end_step(struct machine *m, u32 cpu, u32 *executed)
{
	struct vcpu_step step = m->vcpus[cpu].step;

	m->vcpus[cpu].step = (struct vcpu_step){ 0 };
	machine_stop_clocks(m);
	*executed = step.done;
	return step.err;
}

struct error *machine_make_deaf(struct machine *m, u32 cpu, u64 until_ns)
{
	struct error *err = check_cpu(m, cpu);

	if (!err)
		__atomic_store_n(&m->vcpus[cpu].deaf_until_ns, until_ns, __ATOMIC_RELAXED);
	return err;
}
