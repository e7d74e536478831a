// SPDX-License-Identifier: GPL-2.0-or-later
/* Saved vCPUs that are not what was saved. The first half needs no KVM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/vcpu_rig.h"

/* One of each part, in which `skip` (VCPU_PARTS: none) is missing. */
static void put_parts(struct buf *out, enum vcpu_part skip)
{
	static const u32 sizes[VCPU_PARTS] = {
		[VCPU_MP_STATE] = sizeof(struct kvm_mp_state),
		[VCPU_REGS] = sizeof(struct kvm_regs),
		[VCPU_SREGS2] = sizeof(struct kvm_sregs2),
		[VCPU_XSAVE] = sizeof(struct kvm_xsave),
		[VCPU_XCRS] = sizeof(struct kvm_xcrs),
		[VCPU_DEBUGREGS] = sizeof(struct kvm_debugregs),
		[VCPU_LAPIC] = sizeof(struct kvm_lapic_state),
		[VCPU_NESTED] = sizeof(struct kvm_nested_state),
		[VCPU_EVENTS] = sizeof(struct kvm_vcpu_events),
	};

	vcpu_bytes_begin(out);
	for (u32 i = 0; i < VCPU_PARTS; i++) {
		const struct kvm_nested_state nested = { .size = sizeof(nested) };

		if (i == skip || i == VCPU_SREGS)
			continue;

		u8 *data = vcpu_bytes_add(out, i, sizes[i]);

		if (i == VCPU_NESTED)
			memcpy(data, &nested, sizeof(nested));
	}
	assert_no_error(buf_check(out));
}

static struct error *parse(const struct buf *bytes)
{
	struct reader in = reader_init(bytes->data, bytes->size);
	struct vcpu_parts parts;

	return vcpu_bytes_parse(&in, &parts);
}

static void a_part_that_is_missing_is_named(void **state)
{
	static const struct {
		enum vcpu_part part;
		const char *text;
	} needed[] = {
		{ VCPU_MP_STATE, "no MP state" },
		{ VCPU_REGS, "no general registers" },
		{ VCPU_XSAVE, "no XSAVE area" },
		{ VCPU_MSRS, "no MSRs" },
		{ VCPU_SREGS2, "registers in no shape" },
		{ VCPU_EVENTS, "no events" },
	};
	static const enum vcpu_part optional[] = { VCPU_XCRS, VCPU_DEBUGREGS, VCPU_LAPIC, VCPU_NESTED, VCPU_PARTS };

	for (u32 i = 0; i < ARRAY_SIZE(needed); i++) {
		struct buf bytes CLEANUP(buf_deinit) = BUF_INIT;

		put_parts(&bytes, needed[i].part);
		assert_error(parse(&bytes), ERROR_FORMAT, needed[i].text);
	}
	for (u32 i = 0; i < ARRAY_SIZE(optional); i++) {
		struct buf bytes CLEANUP(buf_deinit) = BUF_INIT;

		put_parts(&bytes, optional[i]);
		assert_no_error(parse(&bytes));
	}
}

/* Whole bytes, and one part more. */
static void refuse_extra(u32 part, u32 size, const void *data, const char *text)
{
	struct buf bytes CLEANUP(buf_deinit) = BUF_INIT;

	put_parts(&bytes, part);

	u8 *space = vcpu_bytes_add(&bytes, part, size);

	if (data)
		memcpy(space, data, size);
	assert_error(parse(&bytes), ERROR_FORMAT, text);
}

static void sizes_that_are_not_kvms_are_refused(void **state)
{
	refuse_extra(VCPU_REGS, sizeof(struct kvm_regs) - 1, NULL, "general registers of a saved vCPU: 143 bytes");
	refuse_extra(VCPU_REGS, sizeof(struct kvm_regs) + 1, NULL, "145 bytes, not 144");
	refuse_extra(VCPU_XSAVE, 4095, NULL, "XSAVE area of a saved vCPU: 4095 bytes");
	refuse_extra(VCPU_LAPIC, 1025, NULL, "1025 bytes, not 1024");
	refuse_extra(VCPU_NESTED, 127, NULL, "127 bytes");
	refuse_extra(VCPU_MSRS, VCPU_MSR_SIZE - 1, NULL, "after 11 bytes");
	refuse_extra(VCPU_PARTS, 8, NULL, "part 11");
	refuse_extra(UINT32_MAX, 0, NULL, "part 4294967295");
	refuse_extra(VCPU_SREGS, sizeof(struct kvm_sregs), NULL, "registers in more than one shape");
}

static void values_that_make_no_sense_are_refused(void **state)
{
	const struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_SIPI_RECEIVED + 1 };
	const struct kvm_xcrs xcrs = { .nr_xcrs = KVM_MAX_XCRS + 1 };
	struct kvm_nested_state nested = { .size = sizeof(nested) + 4096 };
	u8 msr[2 * VCPU_MSR_SIZE] = { 0x81, 0, 0, 0xc0, [VCPU_MSR_SIZE] = 0x10 };

	refuse_extra(VCPU_MP_STATE, sizeof(mp_state), &mp_state, "MP state is 5");
	refuse_extra(VCPU_XCRS, sizeof(xcrs), &xcrs, "17 XCRs");
	// KVM would read beyond the end.
	refuse_extra(VCPU_NESTED, sizeof(nested), &nested, "128 bytes, it says 4224");
	nested.size = 0;
	refuse_extra(VCPU_NESTED, sizeof(nested), &nested, "128 bytes, it says 0");
	// Clocks are set otherwise, and exactly.
	refuse_extra(VCPU_MSRS, sizeof(msr), msr, "MSR 0x10 is not one");
	msr[VCPU_MSR_SIZE] = 0xe0;
	msr[VCPU_MSR_SIZE + 1] = 0x06;
	refuse_extra(VCPU_MSRS, sizeof(msr), msr, "MSR 0x6e0 is not one");
}

static void a_part_that_is_there_twice_is_refused(void **state)
{
	for (u32 i = 0; i < VCPU_PARTS; i++) {
		struct buf once CLEANUP(buf_deinit) = BUF_INIT;
		struct buf twice CLEANUP(buf_deinit) = BUF_INIT;

		if (i == VCPU_SREGS)
			continue;
		put_parts(&once, VCPU_PARTS);
		put_parts(&twice, VCPU_PARTS);

		struct vcpu_parts parts = parts_of(&once);
		u8 *again = vcpu_bytes_add(&twice, i, parts.part[i].size);

		memcpy(again, parts.part[i].data, parts.part[i].size);
		assert_error(parse(&twice), ERROR_FORMAT, "twice");
	}
}

static void another_version_is_named(void **state)
{
	struct buf bytes CLEANUP(buf_deinit) = BUF_INIT;

	put_parts(&bytes, VCPU_PARTS);
	bytes.data[0] = 2;
	assert_error(parse(&bytes), ERROR_FORMAT, "version 2, this ktstr reads 1");
}

/* A copy of its own, so that a read beyond the end is seen. */
static struct error *parse_exactly(const u8 *data, size_t size)
{
	u8 *copy = malloc(size ? size : 1);
	struct reader in = reader_init(memcpy(copy, data, size), size);
	struct vcpu_parts parts;
	struct error *err = vcpu_bytes_parse(&in, &parts);

	free(copy);
	return err;
}

static void cut_off_anywhere_it_is_refused(void **state)
{
	struct buf bytes CLEANUP(buf_deinit) = BUF_INIT;

	put_parts(&bytes, VCPU_PARTS);
	assert_no_error(parse_exactly(bytes.data, bytes.size));
	for (size_t size = 0; size < bytes.size; size++) {
		struct error *err = parse_exactly(bytes.data, size);

		assert_non_null(err);
		assert_int_equal(error_code(err), ERROR_FORMAT);
		error_destroy(err);
	}
}

static void sizes_that_wrap_are_refused(void **state)
{
	for (u32 part = 0; part < VCPU_PARTS; part++) {
		struct buf bytes CLEANUP(buf_deinit) = BUF_INIT;

		put_parts(&bytes, VCPU_PARTS);
		buf_put_u32(&bytes, part);
		buf_put_u32(&bytes, UINT32_MAX - 3);
		assert_error(parse(&bytes), ERROR_FORMAT, "cut short");
	}
}

/* --- with KVM: what is refused changes nothing --- */

static struct error *load_exactly(const struct vcpu *vcpu, const u8 *data, size_t size)
{
	u8 *copy = malloc(size ? size : 1);
	struct reader in = reader_init(memcpy(copy, data, size), size);
	struct error *err = vcpu_load(vcpu, &in);

	free(copy);
	return err;
}

static void a_vcpu_whose_bytes_are_cut_off_stays_as_it_was(void **state)
{
	struct rig r;

	SKIP_WITHOUT_KVM();
	rig_init(&r, VM_IRQCHIP_KERNEL);

	struct buf bytes = rig_save(&r, &r.second);
	struct buf before = rig_save(&r, &r.f.vcpu);

	for (size_t size = 0; size < bytes.size; size++) {
		struct error *err = load_exactly(&r.f.vcpu, bytes.data, size);

		assert_non_null(err);
		assert_int_equal(error_code(err), ERROR_FORMAT);
		error_destroy(err);
	}

	struct buf after = rig_save(&r, &r.f.vcpu);

	assert_same_state(&before, &after);
	buf_deinit(&bytes);
	buf_deinit(&before);
	buf_deinit(&after);
	rig_deinit(&r);
}

/* Whatever the byte, it is refused or it is loaded; and the vCPU can be loaded and saved as before. */
static void a_vcpu_survives_every_wrong_byte(void **state)
{
	u32 loaded = 0, format = 0, unsupported = 0;
	struct rig r;

	SKIP_WITHOUT_KVM();
	rig_init(&r, VM_IRQCHIP_KERNEL);

	struct buf good = rig_save(&r, &r.f.vcpu);

	for (size_t i = 0; i < good.size; i++) {
		good.data[i] ^= 1 << i % 8 | 0x80;

		struct error *err = load_exactly(&r.f.vcpu, good.data, good.size);

		good.data[i] ^= 1 << i % 8 | 0x80;
		if (!err)
			loaded++;
		else if (error_code(err) == ERROR_FORMAT)
			format++;
		else if (error_code(err) == ERROR_UNSUPPORTED)
			unsupported++;
		else
			assert_no_error(err);
		error_destroy(err);
	}
	print_message("of %zu bytes: %u are loaded, %u make no sense, %u KVM refuses\n", good.size, loaded, format,
		      unsupported);
	assert_true(loaded > 0 && format > 0 && unsupported > 0);
	rig_load(&r.f.vcpu, &good);

	struct buf after = rig_save(&r, &r.f.vcpu);

	assert_same_state(&good, &after);
	buf_deinit(&good);
	buf_deinit(&after);
	rig_deinit(&r);
}

/* --- what this KVM cannot be --- */

/* A saved vCPU whose MSRs are these, and nothing else is changed. */
static struct buf with_msrs(const struct rig *r, const struct vcpu_msr *msrs, u32 count)
{
	struct buf whole = rig_save(r, &r->f.vcpu), out = BUF_INIT, values = BUF_INIT;
	struct vcpu_parts parts = parts_of(&whole);

	vcpu_bytes_begin(&out);
	for (u32 i = 0; i < VCPU_PARTS; i++)
		if (parts.part[i].data && i != VCPU_MSRS)
			memcpy(vcpu_bytes_add(&out, i, parts.part[i].size), parts.part[i].data, parts.part[i].size);
	for (u32 i = 0; i < count; i++) {
		buf_put_u32(&values, msrs[i].index);
		buf_put_u64(&values, msrs[i].value);
	}
	memcpy(vcpu_bytes_add(&out, VCPU_MSRS, (u32)values.size), values.data, values.size);
	buf_deinit(&whole);
	buf_deinit(&values);
	return out;
}

enum {
	MSR_NONE = 0x0badbad0, /* there is no such */
	MSR_MTRR_CAP = 0xfe, /* can be read alone */
	MSR_KERNEL_GS_BASE = 0xc0000102,
};

static u64 msr_of(const struct vcpu *vcpu, u32 index)
{
	struct kvm_msr_entry msr = { .index = index };

	assert_no_error(vcpu_get_msrs(vcpu, &msr, 1));
	return msr.data;
}

static void a_refused_msr_stops_the_load_only_if_it_matters(void **state)
{
	struct rig r;

	SKIP_WITHOUT_KVM();
	rig_init(&r, VM_IRQCHIP_KERNEL);

	// More than one batch, refused ones at its seams, and one that counts behind them all.
	struct vcpu_msr msrs[VCPU_MSRS_MAX + 20];

	for (u32 i = 0; i < ARRAY_SIZE(msrs); i++)
		msrs[i] = (struct vcpu_msr){ MSR_NONE + i, 0 };
	msrs[VCPU_MSRS_MAX] = (struct vcpu_msr){ MSR_MTRR_CAP, msr_of(&r.f.vcpu, MSR_MTRR_CAP) };
	msrs[ARRAY_SIZE(msrs) - 1] = (struct vcpu_msr){ MSR_KERNEL_GS_BASE, 0xffff888012340000 };

	struct buf fine = with_msrs(&r, msrs, ARRAY_SIZE(msrs));

	rig_load(&r.f.vcpu, &fine);
	assert_int_equal(msr_of(&r.f.vcpu, MSR_KERNEL_GS_BASE), 0xffff888012340000);

	msrs[VCPU_MSRS_MAX].value++;

	struct buf other = with_msrs(&r, msrs, ARRAY_SIZE(msrs));

	assert_error(load_exactly(&r.f.vcpu, other.data, other.size), ERROR_UNSUPPORTED, "KVM refuses MSR 0xfe = 0x");
	msrs[VCPU_MSRS_MAX].value--;
	msrs[7].value = 1;

	struct buf unknown = with_msrs(&r, msrs, ARRAY_SIZE(msrs));

	assert_error(load_exactly(&r.f.vcpu, unknown.data, unknown.size), ERROR_UNSUPPORTED,
		     "KVM refuses MSR 0xbadbad7 = 0x1, it is not there");
	buf_deinit(&fine);
	buf_deinit(&other);
	buf_deinit(&unknown);
	rig_deinit(&r);
}

static void an_msr_that_cannot_be_read_is_left_out(void **state)
{
	struct rig r;

	SKIP_WITHOUT_KVM();
	rig_init(&r, VM_IRQCHIP_KERNEL);

	u32 index[2 * VCPU_MSRS_MAX + 3];
	struct msr_list list = { .index = index, .count = ARRAY_SIZE(index) };
	struct buf bytes CLEANUP(buf_deinit) = BUF_INIT;

	for (u32 i = 0; i < list.count; i++)
		index[i] = MSR_NONE;
	index[1] = index[VCPU_MSRS_MAX - 1] = index[VCPU_MSRS_MAX] = index[list.count - 1] = MSR_MTRR_CAP;
	assert_no_error(vcpu_save(&r.f.vcpu, &list, &bytes));

	struct vcpu_parts parts = parts_of(&bytes);

	assert_int_equal(vcpu_parts_msr_count(&parts), 4);
	for (u32 i = 0; i < 4; i++) {
		assert_int_equal(vcpu_parts_msr(&parts, i).index, MSR_MTRR_CAP);
		assert_int_equal(vcpu_parts_msr(&parts, i).value, msr_of(&r.f.vcpu, MSR_MTRR_CAP));
	}
	rig_deinit(&r);
}

static void a_vcpu_of_another_kind_of_machine_is_refused(void **state)
{
	struct rig with, without;

	SKIP_WITHOUT_KVM();
	rig_init(&with, VM_IRQCHIP_KERNEL);
	rig_init(&without, VM_IRQCHIP_NONE);

	struct buf a = rig_save(&with, &with.f.vcpu), b = rig_save(&without, &without.f.vcpu);

	assert_error(load_exactly(&without.f.vcpu, a.data, a.size), ERROR_UNSUPPORTED,
		     "has a local APIC, this one has none");
	assert_error(load_exactly(&with.f.vcpu, b.data, b.size), ERROR_UNSUPPORTED,
		     "has no local APIC, this one has one");
	buf_deinit(&a);
	buf_deinit(&b);
	rig_deinit(&with);
	rig_deinit(&without);
}

/* KVM reads as much as its own area has. */
static void an_xsave_area_of_another_size_is_refused(void **state)
{
	struct rig r;

	SKIP_WITHOUT_KVM();
	rig_init(&r, VM_IRQCHIP_KERNEL);

	struct buf whole = rig_save(&r, &r.f.vcpu), larger = BUF_INIT;
	struct vcpu_parts parts = parts_of(&whole);

	vcpu_bytes_begin(&larger);
	for (u32 i = 0; i < VCPU_PARTS; i++)
		if (parts.part[i].data)
			memcpy(vcpu_bytes_add(&larger, i, parts.part[i].size + (i == VCPU_XSAVE ? 64 : 0)),
			       parts.part[i].data, parts.part[i].size);
	assert_error(load_exactly(&r.f.vcpu, larger.data, larger.size), ERROR_UNSUPPORTED, "XSAVE area has");
	buf_deinit(&whole);
	buf_deinit(&larger);
	rig_deinit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_part_that_is_missing_is_named),
		cmocka_unit_test(sizes_that_are_not_kvms_are_refused),
		cmocka_unit_test(values_that_make_no_sense_are_refused),
		cmocka_unit_test(a_part_that_is_there_twice_is_refused),
		cmocka_unit_test(another_version_is_named),
		cmocka_unit_test(cut_off_anywhere_it_is_refused),
		cmocka_unit_test(sizes_that_wrap_are_refused),
		cmocka_unit_test(a_vcpu_whose_bytes_are_cut_off_stays_as_it_was),
		cmocka_unit_test(a_vcpu_survives_every_wrong_byte),
		cmocka_unit_test(a_refused_msr_stops_the_load_only_if_it_matters),
		cmocka_unit_test(an_msr_that_cannot_be_read_is_left_out),
		cmocka_unit_test(a_vcpu_of_another_kind_of_machine_is_refused),
		cmocka_unit_test(an_xsave_area_of_another_size_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
