// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saved vCPUs and interrupt controllers of any bytes. What is accepted has parts of the sizes that KVM will read,
 * and written again and read again it is the same.
 * Input: a byte that says which of the two and whether to start from a good one, then the bytes or the changes.
 */
#include "kvm/vcpu_bytes.h"
#include "patches.h"

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

/* True when it is fine. */
static bool accepted(struct error *err)
{
	bool fine = !err;

	must(fine || error_code(err) == ERROR_FORMAT, "bad bytes are a format error");
	must(fine || error_message(err)[0], "an error says what is wrong");
	error_destroy(err);
	return fine;
}

static void make_vcpu(struct buf *out)
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
		[VCPU_MSRS] = 5 * VCPU_MSR_SIZE,
		[VCPU_EVENTS] = sizeof(struct kvm_vcpu_events),
	};

	vcpu_bytes_begin(out);
	for (u32 i = 0; i < VCPU_PARTS; i++) {
		const struct kvm_nested_state nested = { .size = sizeof(nested) };

		if (i == VCPU_SREGS)
			continue;

		u8 *data = vcpu_bytes_add(out, i, sizes[i]);

		must(data, "memory");
		if (i == VCPU_NESTED)
			memcpy(data, &nested, sizeof(nested));
	}
}

/* Looks at every byte that KVM would. */
static u32 read_all(const struct vcpu_parts *parts)
{
	u32 sum = 0;

	for (u32 i = 0; i < VCPU_PARTS; i++)
		for (u32 j = 0; parts->part[i].data && j < parts->part[i].size; j++)
			sum += parts->part[i].data[j];
	return sum;
}

static void check_sizes(const struct vcpu_parts *parts)
{
	struct kvm_nested_state nested;

	must(parts->part[VCPU_REGS].size == sizeof(struct kvm_regs), "registers");
	must(!parts->part[VCPU_SREGS].data != !parts->part[VCPU_SREGS2].data, "one kind of special registers");
	must(parts->part[VCPU_XSAVE].size >= sizeof(struct kvm_xsave), "XSAVE area");
	must(parts->part[VCPU_EVENTS].size == sizeof(struct kvm_vcpu_events), "events");
	if (parts->part[VCPU_NESTED].data) {
		memcpy(&nested, parts->part[VCPU_NESTED].data, sizeof(nested));
		must(nested.size == parts->part[VCPU_NESTED].size, "nested state");
	}
	for (u32 i = 0; i < vcpu_parts_msr_count(parts); i++)
		must(vcpu_msr_is_state(vcpu_parts_msr(parts, i).index), "an MSR that is a vCPU's state");
}

static void check_written_again(const struct vcpu_parts *parts)
{
	struct buf out = BUF_INIT;
	struct vcpu_parts again;

	vcpu_bytes_begin(&out);
	for (u32 i = 0; i < VCPU_PARTS; i++) {
		if (!parts->part[i].data)
			continue;

		u8 *data = vcpu_bytes_add(&out, i, parts->part[i].size);

		must(data, "memory");
		memcpy(data, parts->part[i].data, parts->part[i].size);
	}

	struct reader in = reader_init(out.data, out.size);

	must(accepted(vcpu_bytes_parse(&in, &again)), "what was accepted is so again");
	for (u32 i = 0; i < VCPU_PARTS; i++)
		must(parts->part[i].size == again.part[i].size &&
			     (!parts->part[i].size ||
			      !memcmp(parts->part[i].data, again.part[i].data, again.part[i].size)),
		     "and the same");
	buf_deinit(&out);
}

static void try_vcpu(const u8 *data, size_t size)
{
	struct reader in = reader_init(data, size);
	struct vcpu_parts parts;

	if (!accepted(vcpu_bytes_parse(&in, &parts)))
		return;
	must(!reader_left(&in), "all of it was read");
	check_sizes(&parts);
	(void)read_all(&parts);
	check_written_again(&parts);
}

static void try_irqchip(const u8 *data, size_t size)
{
	struct kvm_irqchip chips[KVM_NR_IRQCHIPS];
	struct reader in = reader_init(data, size);
	struct buf out = BUF_INIT;

	if (!accepted(irqchip_bytes_parse(&in, chips)))
		return;
	irqchip_bytes_put(&out, chips);
	must(out.size == size && !memcmp(out.data, data, size), "interrupt controllers are the same again");
	buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const struct kvm_irqchip chips[KVM_NR_IRQCHIPS];
	struct buf bytes = BUF_INIT;

	if (!size)
		return 0;

	u8 kind = data[0];

	if (kind & 1) {
		buf_put(&bytes, data + 1, size - 1);
	} else {
		if (kind & 2)
			irqchip_bytes_put(&bytes, chips);
		else
			make_vcpu(&bytes);
		apply_patches(&bytes, data + 1, size - 1);
	}

	// Of its own size, so that a byte behind the end is seen.
	u8 *copy = malloc(bytes.size ? bytes.size : 1);

	if (bytes.size)
		memcpy(copy, bytes.data, bytes.size);
	if (kind & 2)
		try_irqchip(copy, bytes.size);
	else
		try_vcpu(copy, bytes.size);
	free(copy);
	buf_deinit(&bytes);
	return 0;
}
