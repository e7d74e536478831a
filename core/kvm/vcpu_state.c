// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/vcpu_state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "kvm/vcpu_bytes.h"
#include "kvm/vcpu_msrs.h"

/* A part is what an ioctl exchanges; MSRs are in batches. */

#define PART(name, what)                                                                 \
	{                                                                                \
		KVM_GET_##name, KVM_SET_##name, "KVM_GET_" #name, "KVM_SET_" #name, what \
	}
static const struct {
	unsigned long get, set;
	const char *get_name, *set_name, *purpose;
} ioctls[VCPU_PARTS] = {
	[VCPU_MP_STATE] = PART(MP_STATE, "does it run, halt or wait?"),
	[VCPU_REGS] = PART(REGS, "general registers"),
	[VCPU_SREGS] = PART(SREGS, "segment and control registers"),
	[VCPU_SREGS2] = PART(SREGS2, "segment and control registers"),
	[VCPU_XSAVE] = PART(XSAVE, "floating point and vector registers"),
	[VCPU_XCRS] = PART(XCRS, "which registers XSAVE saves"),
	[VCPU_DEBUGREGS] = PART(DEBUGREGS, "debug registers"),
	[VCPU_LAPIC] = PART(LAPIC, "the local APIC"),
	[VCPU_NESTED] = PART(NESTED_STATE, "a guest of the guest"),
	[VCPU_EVENTS] = PART(VCPU_EVENTS, "pending exceptions and interrupts"),
};
#undef PART

static u32 capability(const struct vcpu *vcpu, u32 cap)
{
	int value = ioctl(vcpu->vm_fd, KVM_CHECK_EXTENSION, (unsigned long)cap);

	return value < 0 ? 0 : (u32)value;
}

static u32 xsave_size(const struct vcpu *vcpu)
{
	u32 size = capability(vcpu, KVM_CAP_XSAVE2);

	return size > sizeof(struct kvm_xsave) ? size : sizeof(struct kvm_xsave);
}

/* How large the part is on this KVM, 0 for one that it does not have. */
static u32 size_here(const struct vcpu *vcpu, enum vcpu_part part)
{
	switch (part) {
	case VCPU_MP_STATE:
		return sizeof(struct kvm_mp_state);
	case VCPU_REGS:
		return sizeof(struct kvm_regs);
	case VCPU_SREGS:
		return capability(vcpu, KVM_CAP_SREGS2) ? 0 : sizeof(struct kvm_sregs);
	case VCPU_SREGS2:
		return capability(vcpu, KVM_CAP_SREGS2) ? sizeof(struct kvm_sregs2) : 0;
	case VCPU_XSAVE:
		return xsave_size(vcpu);
	case VCPU_XCRS:
		return capability(vcpu, KVM_CAP_XCRS) ? sizeof(struct kvm_xcrs) : 0;
	case VCPU_DEBUGREGS:
		return capability(vcpu, KVM_CAP_DEBUGREGS) ? sizeof(struct kvm_debugregs) : 0;
	case VCPU_LAPIC:
		return vcpu->has_lapic ? sizeof(struct kvm_lapic_state) : 0;
	case VCPU_NESTED:
		return capability(vcpu, KVM_CAP_NESTED_STATE);
	case VCPU_EVENTS:
		return sizeof(struct kvm_vcpu_events);
	case VCPU_MSRS:
	case VCPU_PARTS:
		break;
	}
	return 0;
}

static struct error *get_part(const struct vcpu *vcpu, enum vcpu_part part, void *space)
{
	return kvm_ioctl(vcpu->fd, ioctls[part].get, ioctls[part].get_name, space, ioctls[part].purpose, NULL);
}

static struct error *get_xsave(const struct vcpu *vcpu, void *space)
{
	// Without the second kind the area has the size it always had.
	if (!capability(vcpu, KVM_CAP_XSAVE2))
		return get_part(vcpu, VCPU_XSAVE, space);
	return KVM_IOCTL(vcpu->fd, KVM_GET_XSAVE2, space, "floating point and vector registers");
}

/* It is told how much room there is, and tells how much it took. */
static struct error *get_nested(const struct vcpu *vcpu, void *space, u32 *size)
{
	struct kvm_nested_state header = { .size = *size };

	memcpy(space, &header, sizeof(header));

	struct error *err = get_part(vcpu, VCPU_NESTED, space);

	if (err)
		return err;
	memcpy(&header, space, sizeof(header));
	if (header.size < sizeof(header) || header.size > *size)
		return error_create(ERROR_UNSUPPORTED, "KVM_GET_NESTED_STATE gives %u bytes, said %u", header.size,
				    *size);
	*size = header.size;
	return NULL;
}

static struct error *save_part(const struct vcpu *vcpu, enum vcpu_part part, struct buf *out)
{
	u32 size = size_here(vcpu, part), used = size;

	if (!size)
		return NULL;

	u8 *space = vcpu_bytes_add(out, part, size);
	struct error *err;

	if (!space)
		return buf_check(out);
	if (part == VCPU_XSAVE)
		err = get_xsave(vcpu, space);
	else if (part == VCPU_NESTED)
		err = get_nested(vcpu, space, &used);
	else
		err = get_part(vcpu, part, space);
	if (!err && used < size)
		vcpu_bytes_trim(out, space, used);
	return err;
}

/*
 * The MP state first: to read it delivers an INIT or SIPI that waits, which changes everything else. The events
 * last, since the other ioctls may still settle something about them.
 */
struct error *vcpu_save(const struct vcpu *vcpu, const struct msr_list *msrs, struct buf *out)
{
	static const enum vcpu_part order[] = {
		VCPU_MP_STATE, VCPU_REGS, VCPU_SREGS, VCPU_SREGS2, VCPU_XSAVE, VCPU_XCRS,
		VCPU_DEBUGREGS, VCPU_LAPIC, VCPU_NESTED, VCPU_MSRS, VCPU_EVENTS
	};
	struct error *err = NULL;

	vcpu_bytes_begin(out);
	for (u32 i = 0; !err && i < ARRAY_SIZE(order); i++)
		err = order[i] == VCPU_MSRS ? vcpu_msrs_save(vcpu, msrs, out) : save_part(vcpu, order[i], out);
	return err ? err : buf_check(out);
}

/* --- loading --- */

static struct error *refused(struct error *err)
{
	if (!err || error_code(err) != ERROR_OS)
		return err;

	struct error *result = error_create(ERROR_UNSUPPORTED, "%s", error_message(err));

	error_destroy(err);
	return result;
}

/* What would be set by halves, or be read beyond its end. */
static struct error *check_fits(const struct vcpu *vcpu, const struct vcpu_parts *parts)
{
	u32 size = parts->part[VCPU_XSAVE].size, here = xsave_size(vcpu);

	if (size != here)
		return error_create(ERROR_UNSUPPORTED, "the saved vCPU's XSAVE area has %u bytes, this KVM's has %u",
				    size, here);
	if (!parts->part[VCPU_LAPIC].data == vcpu->has_lapic)
		return error_create(ERROR_UNSUPPORTED, "the saved vCPU has %s local APIC, this one has %s",
				    vcpu->has_lapic ? "no" : "a", vcpu->has_lapic ? "one" : "none");
	return NULL;
}

/*
 * Out of a guest of the guest's own. Its registers are what KVM would set, and those of the guest would come back
 * over what was set.
 */
static struct error *leave_nested(const struct vcpu *vcpu)
{
	u32 size = capability(vcpu, KVM_CAP_NESTED_STATE);

	if (size < sizeof(struct kvm_nested_state))
		return NULL;

	CLEANUP_FREE struct kvm_nested_state *state = calloc(1, size);

	if (!state)
		return error_no_memory();

	struct error *err = get_nested(vcpu, state, &size);

	if (err || !(state->flags & KVM_STATE_NESTED_GUEST_MODE))
		return err;
	state->flags = state->format == KVM_STATE_NESTED_FORMAT_SVM ? KVM_STATE_NESTED_GIF_SET : 0;
	state->size = sizeof(*state);
	memset(&state->hdr, 0, sizeof(state->hdr));
	if (state->format == KVM_STATE_NESTED_FORMAT_VMX)
		state->hdr.vmx.vmxon_pa = state->hdr.vmx.vmcs12_pa = UINT64_MAX;
	return refused(KVM_IOCTL(vcpu->fd, KVM_SET_NESTED_STATE, state, "leaving a guest of the guest"));
}

/* An INIT or SIPI that waits would be delivered to what is loaded; to ask for the MP state delivers it before. */
static struct error *settle(const struct vcpu *vcpu)
{
	u32 mp_state;
	struct error *err = vcpu_get_mp_state(vcpu, &mp_state);

	return err ? err : leave_nested(vcpu);
}

/* Parts of the state that are in the page which KVM shares with us. */
static void load_run_page(const struct vcpu *vcpu, const struct vcpu_parts *parts)
{
	bool old = parts->part[VCPU_SREGS].data;
	const u8 *sregs = parts->part[old ? VCPU_SREGS : VCPU_SREGS2].data;
	size_t at = old ? offsetof(struct kvm_sregs, cr8) : offsetof(struct kvm_sregs2, cr8);
	u64 cr8;

	// Without a local APIC KVM takes it from there, at every run.
	memcpy(&cr8, sregs + at, sizeof(cr8));
	vcpu->run->cr8 = cr8;
	if (vcpu->run->kvm_valid_regs & KVM_SYNC_X86_REGS)
		memcpy(&vcpu->run->s.regs.regs, parts->part[VCPU_REGS].data, sizeof(vcpu->run->s.regs.regs));
}

static struct error *load_part(const struct vcpu *vcpu, const struct vcpu_parts *parts, enum vcpu_part part)
{
	const u8 *data = parts->part[part].data;

	if (!data)
		return NULL;
	if (part == VCPU_MSRS)
		return vcpu_msrs_load(vcpu, parts);
	return kvm_ioctl(vcpu->fd, ioctls[part].set, ioctls[part].set_name, data, ioctls[part].purpose, NULL);
}

/*
 * Nested state wants EFER, and gives the registers that are set behind it another place. XCRs say what XSAVE may
 * hold. The local APIC wants its base, which is a special register, and forgets its timer when MSRs come first.
 * Setting the general registers drops a pending exception, so events are the last.
 */
static struct error *load_parts(const struct vcpu *vcpu, const struct vcpu_parts *parts)
{
	static const enum vcpu_part order[] = {
		VCPU_MP_STATE, VCPU_SREGS, VCPU_SREGS2, VCPU_NESTED, VCPU_REGS, VCPU_XCRS,
		VCPU_XSAVE, VCPU_DEBUGREGS, VCPU_LAPIC, VCPU_MSRS, VCPU_EVENTS
	};
	struct error *err = NULL;

	for (u32 i = 0; !err && i < ARRAY_SIZE(order); i++)
		err = refused(load_part(vcpu, parts, order[i]));
	if (!err)
		load_run_page(vcpu, parts);
	return err;
}

struct error *vcpu_load(const struct vcpu *vcpu, struct reader *in)
{
	struct vcpu_parts parts;
	struct error *err = vcpu_bytes_parse(in, &parts);

	if (!err)
		err = check_fits(vcpu, &parts);
	if (!err)
		err = settle(vcpu);
	return err ? err : load_parts(vcpu, &parts);
}

/* --- interrupt controllers --- */

struct error *vm_save_irqchip(const struct vm *vm, struct buf *out)
{
	struct kvm_irqchip chips[KVM_NR_IRQCHIPS] = { 0 };

	if (vm->irqchip != VM_IRQCHIP_KERNEL)
		return NULL;
	for (u32 i = 0; i < KVM_NR_IRQCHIPS; i++) {
		chips[i].chip_id = i;

		struct error *err = KVM_IOCTL(vm->fd, KVM_GET_IRQCHIP, &chips[i], "PICs and IOAPIC");

		if (err)
			return error_with_context(err, "chip %u", i);
	}
	irqchip_bytes_put(out, chips);
	return buf_check(out);
}

struct error *vm_load_irqchip(const struct vm *vm, struct reader *in)
{
	struct kvm_irqchip chips[KVM_NR_IRQCHIPS];

	if (vm->irqchip != VM_IRQCHIP_KERNEL) {
		if (!reader_left(in))
			return reader_check(in, "saved interrupt controllers");
		return error_create(ERROR_FORMAT, "saved interrupt controllers, of a machine that has its own");
	}

	struct error *err = irqchip_bytes_parse(in, chips);

	for (u32 i = 0; !err && i < KVM_NR_IRQCHIPS; i++) {
		err = refused(KVM_IOCTL(vm->fd, KVM_SET_IRQCHIP, &chips[i], "PICs and IOAPIC"));
		err = error_with_context(err, "chip %u", i);
	}
	return err;
}
