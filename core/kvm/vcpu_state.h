/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All that KVM keeps of a vCPU and of its in-kernel interrupt controllers, as bytes, and back.
 * Depends on base, kvm.h, vm.h, vcpu.h. For vCPUs that are parked (or have never run), from any one thread.
 * The TSC, its deadline and the kvmclock are not in here: they are set as after a freeze (freeze/clocks.h).
 *
 * The bytes are checked before anything is set: a short, long or senseless section is ERROR_FORMAT, and the vCPU
 * is as it was. What KVM then refuses is ERROR_UNSUPPORTED, and names the register (the MSR by its number).
 */
#ifndef KVM_VCPU_STATE_H
#define KVM_VCPU_STATE_H

#include "base/buf.h"
#include "base/error.h"
#include "kvm/kvm.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"

/*
 * The MSRs that KVM says belong to a vCPU's state (KVM_GET_MSR_INDEX_LIST), and the MTRRs, which it does not list.
 * Without the TSC and its deadline, and without Hyper-V's, which no guest of ours is told of.
 */
struct msr_list {
	u32 count;
	u32 *index;
};

MUST_CHECK struct error *msr_list_init(struct msr_list *list, const struct kvm *kvm);
void msr_list_deinit(struct msr_list *list);

/*
 * MP state, general and special registers, XSAVE area, XCRs, debug registers, local APIC (where KVM has it), nested
 * state (likewise), MSRs, pending events; read in the order that settles what is pending. An MSR that KVM lists and
 * does not read is left out. About 7 KB; vcpu_bytes.h has their layout. An error leaves some of it in out.
 */
MUST_CHECK struct error *vcpu_save(const struct vcpu *vcpu, const struct msr_list *msrs, struct buf *out);
/*
 * All that is left of the reader, in the order that KVM needs; the vCPU's CPUID has been set. An MSR that is refused
 * and reads the same is fine. The vCPU may be a new one, or have been anywhere.
 */
MUST_CHECK struct error *vcpu_load(const struct vcpu *vcpu, struct reader *in);

/*
 * Both PICs and the IOAPIC; nothing (an empty section) where they are not the kernel's. Loaded after the vCPUs, a
 * line that waits for its delivery reaches their local APICs. Which lines are asserted is no part of it: the devices
 * set theirs again.
 */
MUST_CHECK struct error *vm_save_irqchip(const struct vm *vm, struct buf *out);
MUST_CHECK struct error *vm_load_irqchip(const struct vm *vm, struct reader *in);

#endif
