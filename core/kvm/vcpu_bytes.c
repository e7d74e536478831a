// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/vcpu_bytes.h"

enum {
	VCPU_VERSION = 1,
	IRQCHIP_VERSION = 1,

	MSR_TSC = 0x10,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_WALL_CLOCK = 0x11,
	MSR_WALL_CLOCK_NEW = 0x4b564d00,
	MSR_HYPERV = 0x40000000,
	MSR_HYPERV_COUNT = 0x200,
};

enum {
	SIZE_AT_LEAST = 1, /* the part may be larger */
	OPTIONAL = 2,
};

static const struct {
	const char *name;
	u32 size, flags;
} infos[VCPU_PARTS] = {
	[VCPU_MP_STATE] = { "MP state", sizeof(struct kvm_mp_state), 0 },
	[VCPU_REGS] = { "general registers", sizeof(struct kvm_regs), 0 },
	[VCPU_SREGS] = { "special registers", sizeof(struct kvm_sregs), OPTIONAL },
	[VCPU_SREGS2] = { "special registers (2)", sizeof(struct kvm_sregs2), OPTIONAL },
	[VCPU_XSAVE] = { "XSAVE area", sizeof(struct kvm_xsave), SIZE_AT_LEAST },
	[VCPU_XCRS] = { "XCRs", sizeof(struct kvm_xcrs), OPTIONAL },
	[VCPU_DEBUGREGS] = { "debug registers", sizeof(struct kvm_debugregs), OPTIONAL },
	[VCPU_LAPIC] = { "local APIC", sizeof(struct kvm_lapic_state), OPTIONAL },
	[VCPU_NESTED] = { "nested state", sizeof(struct kvm_nested_state), OPTIONAL | SIZE_AT_LEAST },
	[VCPU_MSRS] = { "MSRs", 0, SIZE_AT_LEAST },
	[VCPU_EVENTS] = { "events", sizeof(struct kvm_vcpu_events), 0 },
};

/*
 * Hyper-V's registers are kept for guests that are told of a Hyper-V. Ours are not, and to read one makes KVM set up
 * all that it keeps for such. To write where kvmclock's wall time goes is to have KVM write it there: memory that the
 * guest has not asked for now, and who reads that time asks anew.
 */
bool vcpu_msr_is_state(u32 index)
{
	bool is_clock = index == MSR_TSC || index == MSR_TSC_DEADLINE;
	bool is_order = index == MSR_WALL_CLOCK || index == MSR_WALL_CLOCK_NEW;

	return !is_clock && !is_order && index - MSR_HYPERV >= MSR_HYPERV_COUNT;
}

void vcpu_bytes_begin(struct buf *out)
{
	buf_put_u32(out, VCPU_VERSION);
}

u8 *vcpu_bytes_add(struct buf *out, enum vcpu_part part, u32 size)
{
	buf_put_u32(out, part);
	buf_put_u32(out, size);
	buf_put_zero(out, size);
	return out->failed ? NULL : out->data + out->size - size;
}

void vcpu_bytes_trim(struct buf *out, const u8 *data, u32 size)
{
	size_t start = (size_t)(data - out->data);

	for (u32 i = 0; i < 4; i++)
		out->data[start - 4 + i] = (u8)(size >> (8 * i));
	out->size = start + size;
}

/* --- reading --- */

static struct error *take_part(struct reader *in, struct vcpu_parts *parts)
{
	u32 part = reader_get_u32(in);
	u32 size = reader_get_u32(in);
	const u8 *data = reader_take(in, size);
	struct error *err = reader_check(in, "a saved vCPU");

	if (err)
		return err;
	if (part >= VCPU_PARTS)
		return error_create(ERROR_FORMAT, "a saved vCPU has part %u, which this ktstr does not know", part);
	if (parts->part[part].data)
		return error_create(ERROR_FORMAT, "a saved vCPU has its %s twice", infos[part].name);
	if (infos[part].flags & SIZE_AT_LEAST ? size < infos[part].size : size != infos[part].size)
		return error_create(ERROR_FORMAT, "%s of a saved vCPU: %u bytes, not %u", infos[part].name, size,
				    infos[part].size);
	parts->part[part].data = data;
	parts->part[part].size = size;
	return NULL;
}

static struct error *check_complete(const struct vcpu_parts *parts)
{
	for (u32 i = 0; i < VCPU_PARTS; i++)
		if (!parts->part[i].data && !(infos[i].flags & OPTIONAL))
			return error_create(ERROR_FORMAT, "a saved vCPU has no %s", infos[i].name);
	if (!parts->part[VCPU_SREGS].data == !parts->part[VCPU_SREGS2].data)
		return error_create(ERROR_FORMAT, "a saved vCPU has its special registers in %s shape",
				    parts->part[VCPU_SREGS].data ? "more than one" : "no");
	return NULL;
}

/* A little-endian u32 at an offset of a part that is large enough. */
static u32 word_at(const struct vcpu_parts *parts, enum vcpu_part part, size_t offset)
{
	struct reader r = reader_init(parts->part[part].data + offset, sizeof(u32));

	return reader_get_u32(&r);
}

struct vcpu_msr vcpu_parts_msr(const struct vcpu_parts *parts, u32 i)
{
	struct reader r = reader_init(parts->part[VCPU_MSRS].data + (size_t)i * VCPU_MSR_SIZE, VCPU_MSR_SIZE);
	u32 index = reader_get_u32(&r);

	return (struct vcpu_msr){ .index = index, .value = reader_get_u64(&r) };
}

static struct error *check_msrs(const struct vcpu_parts *parts)
{
	u32 size = parts->part[VCPU_MSRS].size;

	if (size % VCPU_MSR_SIZE)
		return error_create(ERROR_FORMAT, "MSRs of a saved vCPU end within one, after %u bytes", size);
	for (u32 i = 0; i < vcpu_parts_msr_count(parts); i++) {
		u32 index = vcpu_parts_msr(parts, i).index;

		if (!vcpu_msr_is_state(index))
			return error_create(ERROR_FORMAT, "MSR 0x%x is not one that a vCPU is saved with", index);
	}
	return NULL;
}

/* What KVM would not look at, or not refuse. */
static struct error *check_meaning(const struct vcpu_parts *parts)
{
	u32 mp_state = word_at(parts, VCPU_MP_STATE, offsetof(struct kvm_mp_state, mp_state));

	if (mp_state > KVM_MP_STATE_SIPI_RECEIVED)
		return error_create(ERROR_FORMAT, "a saved vCPU's MP state is %u", mp_state);
	if (parts->part[VCPU_XCRS].data) {
		u32 count = word_at(parts, VCPU_XCRS, offsetof(struct kvm_xcrs, nr_xcrs));

		if (count > KVM_MAX_XCRS)
			return error_create(ERROR_FORMAT, "a saved vCPU has %u XCRs", count);
	}
	// KVM reads as much as the header says, whatever room there is.
	if (parts->part[VCPU_NESTED].data) {
		u32 size = word_at(parts, VCPU_NESTED, offsetof(struct kvm_nested_state, size));

		if (size != parts->part[VCPU_NESTED].size)
			return error_create(ERROR_FORMAT, "nested state of a saved vCPU: %u bytes, it says %u",
					    parts->part[VCPU_NESTED].size, size);
	}
	return check_msrs(parts);
}

static struct error *check_version(u32 version, u32 expected, const char *what)
{
	if (version == expected)
		return NULL;
	return error_create(ERROR_FORMAT, "%s have version %u, this ktstr reads %u", what, version, expected);
}

struct error *vcpu_bytes_parse(struct reader *in, struct vcpu_parts *ret)
{
	u32 version = reader_get_u32(in);
	struct error *err = reader_check(in, "a saved vCPU");

	*ret = (struct vcpu_parts){ 0 };
	if (!err)
		err = check_version(version, VCPU_VERSION, "a saved vCPU's bytes");
	while (!err && reader_left(in))
		err = take_part(in, ret);
	if (!err)
		err = check_complete(ret);
	return err ? err : check_meaning(ret);
}

/* --- interrupt controllers --- */

static const u32 chip_sizes[KVM_NR_IRQCHIPS] = {
	[KVM_IRQCHIP_PIC_MASTER] = sizeof(struct kvm_pic_state),
	[KVM_IRQCHIP_PIC_SLAVE] = sizeof(struct kvm_pic_state),
	[KVM_IRQCHIP_IOAPIC] = sizeof(struct kvm_ioapic_state),
};

void irqchip_bytes_put(struct buf *out, const struct kvm_irqchip chips[KVM_NR_IRQCHIPS])
{
	buf_put_u32(out, IRQCHIP_VERSION);
	for (u32 i = 0; i < KVM_NR_IRQCHIPS; i++)
		buf_put(out, &chips[i].chip, chip_sizes[i]);
}

struct error *irqchip_bytes_parse(struct reader *in, struct kvm_irqchip ret[KVM_NR_IRQCHIPS])
{
	u32 version = reader_get_u32(in);

	for (u32 i = 0; i < KVM_NR_IRQCHIPS; i++) {
		ret[i] = (struct kvm_irqchip){ .chip_id = i };
		reader_get(in, &ret[i].chip, chip_sizes[i]);
	}

	struct error *err = reader_check(in, "saved interrupt controllers");

	if (!err)
		err = check_version(version, IRQCHIP_VERSION, "saved interrupt controllers");
	if (!err && reader_left(in))
		err = error_create(ERROR_FORMAT, "saved interrupt controllers have %zu bytes too many",
				   reader_left(in));
	return err;
}
