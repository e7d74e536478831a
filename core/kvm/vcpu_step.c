// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/vcpu_step.h"

#include <string.h>

#ifndef KVM_RUN_X86_GUEST_MODE /* Linux 6.11: the vCPU runs a guest of the guest's */
#define KVM_RUN_X86_GUEST_MODE (1 << 2)
#endif

static bool is_event_under_way(const struct kvm_vcpu_events *events)
{
	return events->exception.injected || events->exception.pending || events->interrupt.injected ||
	       events->nmi.injected;
}

static struct error *is_at_halt(const struct vcpu *vcpu, const struct guest_memory *memory,
				const struct kvm_regs *regs, bool *ret)
{
	static const u8 HLT = 0xf4;
	struct kvm_sregs sregs;
	bool mapped = false;
	u64 gpa = 0;
	struct error *err = vcpu_get_sregs(vcpu, &sregs);

	if (!err)
		err = vcpu_translate(vcpu, sregs.cs.base + regs->rip, &gpa, &mapped);
	if (err || !mapped || sregs.ss.dpl != 0)
		return err;

	const u8 *opcode = guest_memory_at(memory, gpa, 1);

	*ret = opcode && __atomic_load_n(opcode, __ATOMIC_RELAXED) == HLT;
	return NULL;
}

static struct error *halt(const struct vcpu *vcpu, struct kvm_regs *regs, struct kvm_vcpu_events *events)
{
	regs->rip++;
	// The shadow of the STI in front of it: with that nothing would wake the vCPU.
	events->interrupt.shadow = 0;
	events->flags = KVM_VCPUEVENT_VALID_SHADOW;

	struct error *err = vcpu_set_regs(vcpu, regs);

	if (!err)
		err = vcpu_set_events(vcpu, events);
	if (!err)
		err = vcpu_set_mp_state(vcpu, KVM_MP_STATE_HALTED);
	return err;
}

struct error *vcpu_step_halt(const struct vcpu *vcpu, const struct guest_memory *memory, bool *halted)
{
	struct kvm_vcpu_events events;
	struct kvm_regs regs;
	struct error *err = vcpu_get_events(vcpu, &events);

	*halted = false;
	// A HLT in a guest of the guest's is its host's matter.
	if (err || is_event_under_way(&events) || vcpu->run->flags & KVM_RUN_X86_GUEST_MODE)
		return err;
	err = vcpu_get_regs(vcpu, &regs);
	if (!err)
		err = is_at_halt(vcpu, memory, &regs, halted);
	return err || !*halted ? err : halt(vcpu, &regs, &events);
}

/* Sets or clears a vector's bit in one of the local APIC's registers of 256; true when it was set. */
static bool put_vector(struct kvm_lapic_state *lapic, u32 reg, u8 vector, bool on)
{
	void *place = lapic->regs + reg + vector / 32 * 16;
	u32 bit = 1U << vector % 32;
	u32 word;

	memcpy(&word, place, sizeof(word));

	bool was = word & bit;

	word = on ? word | bit : word & ~bit;
	memcpy(place, &word, sizeof(word));
	return was;
}

struct error *vcpu_withhold_interrupt(const struct vcpu *vcpu)
{
	enum {
		IN_SERVICE = 0x100,
		REQUESTED = 0x200,
	};
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	struct error *err = vcpu_get_events(vcpu, &events);

	if (err || !vcpu->has_lapic || !events.interrupt.injected || events.interrupt.soft)
		return err;
	err = vcpu_get_lapic(vcpu, &lapic);
	// Else it is one of the PIC's, which has been told already.
	if (err || !put_vector(&lapic, IN_SERVICE, events.interrupt.nr, false))
		return err;
	put_vector(&lapic, REQUESTED, events.interrupt.nr, true);
	events.interrupt.injected = 0;
	events.flags = 0;
	err = vcpu_set_events(vcpu, &events);
	return err ? err : vcpu_set_lapic(vcpu, &lapic);
}
