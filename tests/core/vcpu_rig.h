/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tests of saved vCPUs share: a machine of two vCPUs, its state as bytes, two states compared part by part.
 * Depends on cmocka and core/kvm; included after cmocka.h.
 * What differs is named: the part, and where in it.
 */
#ifndef TESTS_CORE_VCPU_RIG_H
#define TESTS_CORE_VCPU_RIG_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "core/kvm_fixture.h"
#include "kvm/vcpu_bytes.h"
#include "kvm/vcpu_state.h"

enum {
	LAPIC_TPR = 0x80,
	LAPIC_SPURIOUS = 0xf0,
	LAPIC_REQUESTED = 0x200, /* 256 bits, 32 in each 16 bytes */
	LAPIC_TIMER = 0x320,
	LAPIC_TIMER_INITIAL = 0x380,
	LAPIC_TIMER_CURRENT = 0x390,
	LAPIC_TIMER_DIVIDE = 0x3e0,
};

/* The second vCPU waits for its SIPI, where there are local APICs. */
struct rig {
	struct fixture f;
	struct vcpu second;
	struct msr_list msrs;
};

static const u8 rig_code[] = { 0xeb, 0xfe }; /* jmp to itself */

static inline void rig_init_code(struct rig *r, enum vm_irqchip irqchip, const void *code, size_t size)
{
	struct kvm_cpuid2 *cpuid;

	fixture_init(&r->f, irqchip, code, size);
	assert_no_error(vcpu_init(&r->second, &r->f.vm, 1));
	assert_no_error(kvm_supported_cpuid(&r->f.kvm, 0, &cpuid));
	assert_no_error(vcpu_set_cpuid(&r->second, cpuid));
	free(cpuid);
	assert_no_error(msr_list_init(&r->msrs, &r->f.kvm));
}

static inline void rig_init(struct rig *r, enum vm_irqchip irqchip)
{
	rig_init_code(r, irqchip, rig_code, sizeof(rig_code));
}

static inline void rig_deinit(struct rig *r)
{
	msr_list_deinit(&r->msrs);
	vcpu_deinit(&r->second);
	fixture_deinit(&r->f);
}

static inline struct buf rig_save(const struct rig *r, const struct vcpu *vcpu)
{
	struct buf out = BUF_INIT;

	assert_no_error(vcpu_save(vcpu, &r->msrs, &out));
	return out;
}

static inline void rig_load(const struct vcpu *vcpu, const struct buf *bytes)
{
	struct reader in = reader_init(bytes->data, bytes->size);

	assert_no_error(vcpu_load(vcpu, &in));
	assert_int_equal(reader_left(&in), 0);
}

static inline struct vcpu_parts parts_of(const struct buf *bytes)
{
	struct reader in = reader_init(bytes->data, bytes->size);
	struct vcpu_parts parts;

	assert_no_error(vcpu_bytes_parse(&in, &parts));
	return parts;
}

/*
 * What a running timer has left, and a field of the VMCB that KVM writes at each run and never reads: DR6 of the outer
 * of two guests, which it keeps elsewhere.
 */
static inline bool is_no_state(enum vcpu_part part, u32 i)
{
	const u32 vmcb_dr6 = sizeof(struct kvm_nested_state) + 0x568;

	return (part == VCPU_LAPIC && i >= LAPIC_TIMER_CURRENT && i < LAPIC_TIMER_CURRENT + 4) ||
	       (part == VCPU_NESTED && i >= vmcb_dr6 && i < vmcb_dr6 + 8);
}

/* The first byte of the part that differs, or -1. */
static inline s64 difference(enum vcpu_part part, const u8 *a, const u8 *b, u32 size)
{
	for (u32 i = 0; i < size; i++)
		if (a[i] != b[i] && !is_no_state(part, i))
			return i;
	return -1;
}

static inline void assert_same_state_(const struct buf *a, const struct buf *b, const char *file, int line)
{
	struct vcpu_parts pa = parts_of(a), pb = parts_of(b);

	for (u32 i = 0; i < VCPU_PARTS; i++) {
		s64 at = -1;

		if (pa.part[i].size == pb.part[i].size && !pa.part[i].data == !pb.part[i].data)
			at = difference(i, pa.part[i].data, pb.part[i].data, pa.part[i].size);
		else
			print_error("part %u: %u and %u bytes\n", i, pa.part[i].size, pb.part[i].size);
		if (at >= 0 && i == VCPU_MSRS)
			print_error("MSR 0x%x: 0x%llx and 0x%llx\n", vcpu_parts_msr(&pa, at / VCPU_MSR_SIZE).index,
				    (unsigned long long)vcpu_parts_msr(&pa, at / VCPU_MSR_SIZE).value,
				    (unsigned long long)vcpu_parts_msr(&pb, at / VCPU_MSR_SIZE).value);
		if (at >= 0)
			print_error("part %u differs at 0x%llx: %02x and %02x\n", i, (unsigned long long)at,
				    pa.part[i].data[at], pb.part[i].data[at]);
		if (at >= 0 || pa.part[i].size != pb.part[i].size)
			_fail(file, line);
	}
}
#define assert_same_state(a, b) assert_same_state_(a, b, __FILE__, __LINE__)

/* The vCPU's state, loaded into a new machine of the same kind that is left in `to`, is the same there. */
static inline void move_vcpu_(const struct rig *from, bool second, enum vm_irqchip irqchip, struct rig *to,
			      const char *file, int line)
{
	struct buf before = rig_save(from, second ? &from->second : &from->f.vcpu);

	rig_init(to, irqchip);

	const struct vcpu *vcpu = second ? &to->second : &to->f.vcpu;

	rig_load(vcpu, &before);

	struct buf after = rig_save(to, vcpu);

	assert_same_state_(&before, &after, file, line);
	buf_deinit(&before);
	buf_deinit(&after);
}
#define move_vcpu(from, second, irqchip, to) move_vcpu_(from, second, irqchip, to, __FILE__, __LINE__)

static inline void lapic_put(struct kvm_lapic_state *lapic, u32 reg, u32 value)
{
	memcpy(lapic->regs + reg, &value, sizeof(value));
}

static inline u32 lapic_get(const struct vcpu *vcpu, u32 reg)
{
	struct kvm_lapic_state lapic;
	u32 value;

	assert_no_error(vcpu_get_lapic(vcpu, &lapic));
	memcpy(&value, lapic.regs + reg, sizeof(value));
	return value;
}

/* The local APIC is on, as a guest's driver would have it. */
static inline void lapic_enable(const struct vcpu *vcpu)
{
	struct kvm_lapic_state lapic;

	assert_no_error(vcpu_get_lapic(vcpu, &lapic));
	lapic_put(&lapic, LAPIC_SPURIOUS, 0x1ff);
	assert_no_error(vcpu_set_lapic(vcpu, &lapic));
}

static inline bool is_requested(const struct vcpu *vcpu, u32 vector)
{
	return lapic_get(vcpu, LAPIC_REQUESTED + vector / 32 * 16) >> vector % 32 & 1;
}

#endif
