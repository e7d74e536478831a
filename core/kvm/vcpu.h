/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One vCPU: its shared run page, registers, CPUID, MSRs, TSC; running it and getting it to stop.
 * Depends on base, kvm.h, vm.h. Run and registers belong to one thread (or to one that knows it is
 * parked); vcpu_request_exit() may come from any.
 * A partial KVM_SET_MSRS or KVM_GET_MSRS is an error that names the MSR.
 */
#ifndef KVM_VCPU_H
#define KVM_VCPU_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/types.h"
#include "kvm/vm.h"

struct vcpu {
	int fd;
	int vm_fd; /* the machine's, not closed here; tells what this KVM can save */
	bool has_lapic; /* KVM has its local APIC */
	u32 id; /* KVM's vCPU id, which is the APIC id */
	struct kvm_run *run;
	size_t run_size;
};

MUST_CHECK struct error *vcpu_init(struct vcpu *vcpu, const struct vm *vm, u32 apic_id);
/* One that was never initialised may be all zero with fd -1. */
void vcpu_deinit(struct vcpu *vcpu);

enum vcpu_run_result {
	VCPU_EXIT, /* run->exit_reason says what the guest did */
	VCPU_INTERRUPTED, /* immediate_exit or a signal; a finished IO/MMIO exit has retired */
	VCPU_NOT_READY, /* waits for INIT or SIPI and was woken without one: run it again */
};

/*
 * KVM_RUN. An error is for good (it says where the guest was); everything that may happen to a healthy
 * vCPU is a result. After an exit for IO or MMIO the instruction retires only in the next vcpu_run():
 * to park, read or save a vCPU, handle the exit, then run with an exit requested until VCPU_INTERRUPTED.
 */
MUST_CHECK struct error *vcpu_run(struct vcpu *vcpu, enum vcpu_run_result *ret);

/*
 * Makes the vCPU's next (or, with a signal to its thread afterwards, its present) vcpu_run() return
 * VCPU_INTERRUPTED at once. Stays until cleared.
 */
static inline void vcpu_request_exit(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

/* Only the vCPU's own thread clears it; a full barrier. True when an exit had been requested. */
static inline bool vcpu_clear_exit(struct vcpu *vcpu)
{
	return __atomic_exchange_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST) != 0;
}

/* "KVM_EXIT_MMIO"; "an unknown exit" for one that this program does not know. */
const char *vcpu_exit_name(u32 reason);
/*
 * What the last exit was, in words, for a result or a log: reason, internal error's kind and data,
 * failed entry's hardware reason, and rip. Always terminates; reads the vCPU's registers.
 */
void vcpu_describe_exit(const struct vcpu *vcpu, char *buffer, size_t size);

/*
 * The same without asking KVM, so without waiting for a vCPU that runs; from any thread, and then what it says
 * may be half of one exit and half of the next. rip is left out where KVM does not keep it in the run page.
 */
void vcpu_describe_last_exit(const struct vcpu *vcpu, char *buffer, size_t size);

MUST_CHECK struct error *vcpu_set_cpuid(const struct vcpu *vcpu, const struct kvm_cpuid2 *cpuid);
MUST_CHECK struct error *vcpu_get_regs(const struct vcpu *vcpu, struct kvm_regs *ret);
MUST_CHECK struct error *vcpu_set_regs(const struct vcpu *vcpu, const struct kvm_regs *regs);
MUST_CHECK struct error *vcpu_get_sregs(const struct vcpu *vcpu, struct kvm_sregs *ret);
MUST_CHECK struct error *vcpu_set_sregs(const struct vcpu *vcpu, const struct kvm_sregs *sregs);
/* KVM_MP_STATE_*; an AP starts as KVM_MP_STATE_UNINITIALIZED and waits for its SIPI. */
MUST_CHECK struct error *vcpu_get_mp_state(const struct vcpu *vcpu, u32 *ret);
MUST_CHECK struct error *vcpu_set_mp_state(const struct vcpu *vcpu, u32 mp_state);
/* Exceptions and interrupts under way, the interrupt shadow; setting takes what its flags say is valid. */
MUST_CHECK struct error *vcpu_get_events(const struct vcpu *vcpu, struct kvm_vcpu_events *ret);
MUST_CHECK struct error *vcpu_set_events(const struct vcpu *vcpu, const struct kvm_vcpu_events *events);

/* At most VCPU_MSRS_MAX at a time: KVM takes fewer than 256. */
enum { VCPU_MSRS_MAX = 255 };
MUST_CHECK struct error *vcpu_set_msrs(const struct vcpu *vcpu, const struct kvm_msr_entry *msrs, u32 count);
/* Fills in the data of each; the indexes are the caller's. */
MUST_CHECK struct error *vcpu_get_msrs(const struct vcpu *vcpu, struct kvm_msr_entry *msrs, u32 count);

MUST_CHECK struct error *vcpu_get_tsc_khz(const struct vcpu *vcpu, u32 *ret);
MUST_CHECK struct error *vcpu_set_tsc_khz(const struct vcpu *vcpu, u32 khz);
/* What is added to the host's TSC; two's complement. ERROR_UNSUPPORTED where KVM does not tell. */
MUST_CHECK struct error *vcpu_get_tsc_offset(const struct vcpu *vcpu, u64 *ret);
MUST_CHECK struct error *vcpu_set_tsc_offset(const struct vcpu *vcpu, u64 offset);

/*
 * The local APIC's registers, where KVM has it; the timer's count is what remains of it now. Setting them
 * replaces every interrupt that waits there, also one that came in since they were read: while no other vCPU
 * and no device can send any.
 */
MUST_CHECK struct error *vcpu_get_lapic(const struct vcpu *vcpu, struct kvm_lapic_state *ret);
MUST_CHECK struct error *vcpu_set_lapic(const struct vcpu *vcpu, const struct kvm_lapic_state *lapic);
/* KVM_KVMCLOCK_CTRL: the guest's watchdogs start anew. Fine, and nothing, where the guest has no kvmclock. */
MUST_CHECK struct error *vcpu_tell_stopped(const struct vcpu *vcpu);

/* control: KVM_GUESTDBG_*; debugreg: DR0 to DR7, or NULL for none. */
MUST_CHECK struct error *vcpu_set_guest_debug(const struct vcpu *vcpu, u32 control, const u64 debugreg[8]);

/* Guest-virtual to guest-physical by the vCPU's present page tables; false when it is not mapped. */
MUST_CHECK struct error *vcpu_translate(const struct vcpu *vcpu, u64 gva, u64 *gpa, bool *mapped);

#endif
