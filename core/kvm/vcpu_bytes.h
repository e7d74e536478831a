/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a saved vCPU and saved interrupt controllers are laid out as bytes.
 * Depends on base and <linux/kvm.h>, makes no system call.
 * What is parsed without an error can be handed to KVM: every size is what KVM will read.
 *
 * vCPU: u32 version, then parts: u32 enum vcpu_part, u32 size, and as many bytes as KVM's ioctl of that name
 * exchanges. Each part at most once, in any order.
 * Interrupt controllers: u32 version, then struct kvm_pic_state twice and struct kvm_ioapic_state.
 */
#ifndef KVM_VCPU_BYTES_H
#define KVM_VCPU_BYTES_H

#include <linux/kvm.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/types.h"

/* The numbers are in saved machines. */
enum vcpu_part {
	VCPU_MP_STATE = 0,
	VCPU_REGS = 1,
	VCPU_SREGS = 2, /* this one or the next, never both */
	VCPU_SREGS2 = 3,
	VCPU_XSAVE = 4, /* as large as KVM_CAP_XSAVE2 says */
	VCPU_XCRS = 5, /* may be missing, as may the next three */
	VCPU_DEBUGREGS = 6,
	VCPU_LAPIC = 7,
	VCPU_NESTED = 8, /* as large as its own header says */
	VCPU_MSRS = 9, /* VCPU_MSR_SIZE each: u32 index, u64 value */
	VCPU_EVENTS = 10,
	VCPU_PARTS
};

enum { VCPU_MSR_SIZE = 12 };

/* Point into the bytes that were parsed, not aligned. data is NULL for a part that is missing. */
struct vcpu_parts {
	struct {
		const u8 *data;
		u32 size;
	} part[VCPU_PARTS];
};

struct vcpu_msr {
	u32 index;
	u64 value;
};

/*
 * False for the TSC and its deadline, which are no state but clocks, for orders to KVM, and for what our guests cannot
 * have.
 */
bool vcpu_msr_is_state(u32 index);

void vcpu_bytes_begin(struct buf *out);
/* Adds a part of size bytes, zeros at first. Valid until the next call; NULL when memory is short. */
u8 *vcpu_bytes_add(struct buf *out, enum vcpu_part part, u32 size);
/* The part that was added last, at data, turns out to have only size bytes. */
void vcpu_bytes_trim(struct buf *out, const u8 *data, u32 size);

/* All that is left of the reader. ERROR_FORMAT says what is wrong. */
MUST_CHECK struct error *vcpu_bytes_parse(struct reader *in, struct vcpu_parts *ret);

static inline u32 vcpu_parts_msr_count(const struct vcpu_parts *parts)
{
	return parts->part[VCPU_MSRS].size / VCPU_MSR_SIZE;
}

struct vcpu_msr vcpu_parts_msr(const struct vcpu_parts *parts, u32 i);

/* By KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE, _IOAPIC. */
void irqchip_bytes_put(struct buf *out, const struct kvm_irqchip chips[KVM_NR_IRQCHIPS]);
MUST_CHECK struct error *irqchip_bytes_parse(struct reader *in, struct kvm_irqchip ret[KVM_NR_IRQCHIPS]);

#endif
