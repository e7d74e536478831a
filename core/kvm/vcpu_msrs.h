/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MSRs of a saved vCPU, in as few calls to KVM as can be.
 * Depends on vcpu_bytes.h and vcpu_state.h; for vcpu_state.c alone.
 * An MSR that KVM refuses stops neither, unless the vCPU would then be another than was saved.
 */
#ifndef KVM_VCPU_MSRS_H
#define KVM_VCPU_MSRS_H

#include "kvm/vcpu_bytes.h"
#include "kvm/vcpu_state.h"

/* Adds the part VCPU_MSRS, without those that cannot be read. */
MUST_CHECK struct error *vcpu_msrs_save(const struct vcpu *vcpu, const struct msr_list *list, struct buf *out);
/* ERROR_UNSUPPORTED names the one that is refused and is another here. */
MUST_CHECK struct error *vcpu_msrs_load(const struct vcpu *vcpu, const struct vcpu_parts *parts);

#endif
