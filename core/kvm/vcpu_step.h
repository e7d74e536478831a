/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What KVM does not single-step as a debugger means it: a HLT, and an interrupt that is under way.
 * Depends on vcpu.h, memory.h. For the vCPU's own thread, between two KVM_RUNs, the last exit having retired.
 */
#ifndef KVM_VCPU_STEP_H
#define KVM_VCPU_STEP_H

#include "kvm/memory.h"
#include "kvm/vcpu.h"

/*
 * Where a HLT of the kernel's is the next thing to happen, carries it out: *halted is true, the vCPU stands behind
 * it and waits for an interrupt. KVM's instruction emulator, where it is the one that steps, notes the HLT and
 * halts only at the first instruction that it does not step, perhaps with interrupts off, for good.
 */
MUST_CHECK struct error *vcpu_step_halt(const struct vcpu *vcpu, const struct guest_memory *memory, bool *halted);

/*
 * An interrupt of the local APIC that KVM has taken and not delivered yet waits in the APIC again, as one that comes
 * in during the steps does. Delivered in a step, it would push flags that hold the step's own trap flag, and the
 * guest get a debug exception at its handler's end. While nothing else can send the vCPU interrupts.
 */
MUST_CHECK struct error *vcpu_withhold_interrupt(const struct vcpu *vcpu);

#endif
