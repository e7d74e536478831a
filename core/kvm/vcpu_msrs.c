// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/vcpu_msrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"

/* --- which MSRs --- */

/* More than any KVM lists; 7.3 has about 200. */
enum { MSRS_MAX = 4096 };

enum {
	MSR_MTRR_VARIABLE = 0x200,
	MSR_MTRR_VARIABLE_COUNT = 16,
	MSR_MTRR_FIXED_4K = 0x268,
	MSR_MTRR_FIXED_4K_COUNT = 8,
};

/* KVM keeps the MTRRs and does not list them: a guest compares them when it brings up a CPU. */
static const struct {
	u32 first, count;
} unlisted[] = {
	{ MSR_MTRR_VARIABLE, MSR_MTRR_VARIABLE_COUNT },
	{ 0x250, 1 }, /* fixed, 64K */
	{ 0x258, 2 }, /* fixed, 16K */
	{ MSR_MTRR_FIXED_4K, MSR_MTRR_FIXED_4K_COUNT },
	{ 0x2ff, 1 }, /* the default type, and whether they are in use */
};

static bool is_listed(const struct msr_list *list, u32 index)
{
	for (u32 i = 0; i < list->count; i++)
		if (list->index[i] == index)
			return true;
	return false;
}

/* To be freed; NULL, and the error, when there is none. */
static struct kvm_msr_list *fetch_list(const struct kvm *kvm, struct error **err)
{
	for (u32 room = 256; room <= MSRS_MAX; room *= 2) {
		CLEANUP_FREE struct kvm_msr_list *list = calloc(1, sizeof(*list) + room * sizeof(list->indices[0]));

		if (!list) {
			*err = error_no_memory();
			return NULL;
		}
		list->nmsrs = room;
		if (ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, list) == 0)
			return no_free(list);
		if (errno != E2BIG) {
			*err = error_create_errno("KVM_GET_MSR_INDEX_LIST (what a vCPU has)");
			return NULL;
		}
	}
	*err = error_create(ERROR_UNSUPPORTED, "KVM_GET_MSR_INDEX_LIST has more than %d entries", MSRS_MAX);
	return NULL;
}

struct error *msr_list_init(struct msr_list *list, const struct kvm *kvm)
{
	struct error *err = NULL;
	CLEANUP_FREE struct kvm_msr_list *listed = fetch_list(kvm, &err);

	*list = (struct msr_list){ 0 };
	if (!listed)
		return err;

	u32 room = listed->nmsrs;

	for (u32 i = 0; i < ARRAY_SIZE(unlisted); i++)
		room += unlisted[i].count;
	list->index = calloc(room, sizeof(list->index[0]));
	if (!list->index)
		return error_no_memory();
	for (u32 i = 0; i < listed->nmsrs; i++)
		if (vcpu_msr_is_state(listed->indices[i]))
			list->index[list->count++] = listed->indices[i];
	for (u32 i = 0; i < ARRAY_SIZE(unlisted); i++)
		for (u32 index = unlisted[i].first; index < unlisted[i].first + unlisted[i].count; index++)
			if (!is_listed(list, index))
				list->index[list->count++] = index;
	return NULL;
}

void msr_list_deinit(struct msr_list *list)
{
	free(list->index);
	*list = (struct msr_list){ 0 };
}

/* --- MSRs: both ioctls stop at the first that KVM refuses, and return how many came before it --- */

union msr_batch {
	struct kvm_msrs msrs;
	u8 space[sizeof(struct kvm_msrs) + VCPU_MSRS_MAX * sizeof(struct kvm_msr_entry)];
};

static struct error *get_batch(const struct vcpu *vcpu, union msr_batch *batch, u32 *done)
{
	return KVM_IOCTL_RET(vcpu->fd, KVM_GET_MSRS, batch, "model-specific registers", (int *)done);
}

static void put_msrs(const union msr_batch *batch, u32 count, struct buf *out)
{
	for (u32 i = 0; i < count; i++) {
		buf_put_u32(out, batch->msrs.entries[i].index);
		buf_put_u64(out, batch->msrs.entries[i].data);
	}
}

/* Those that are refused are left out. */
static struct error *read_msrs(const struct vcpu *vcpu, const struct msr_list *list, struct buf *out)
{
	for (u32 pos = 0; pos < list->count;) {
		union msr_batch batch = { .msrs.nmsrs = 0 };
		u32 count = list->count - pos, done = 0;

		if (count > VCPU_MSRS_MAX)
			count = VCPU_MSRS_MAX;
		batch.msrs.nmsrs = count;
		for (u32 i = 0; i < count; i++)
			batch.msrs.entries[i] = (struct kvm_msr_entry){ .index = list->index[pos + i] };

		struct error *err = get_batch(vcpu, &batch, &done);

		if (err)
			return err;
		put_msrs(&batch, done, out);
		pos += done < count ? done + 1 : count;
	}
	return NULL;
}

struct error *vcpu_msrs_save(const struct vcpu *vcpu, const struct msr_list *list, struct buf *out)
{
	struct buf values CLEANUP(buf_deinit) = BUF_INIT;
	struct error *err = read_msrs(vcpu, list, &values);

	if (!err)
		err = buf_check(&values);
	if (err)
		return err;

	u8 *space = vcpu_bytes_add(out, VCPU_MSRS, (u32)values.size);

	if (space && values.size)
		memcpy(space, values.data, values.size);
	return NULL;
}

/* Fine when it is as it should be all the same: a register that says what the host is, or one that is not there. */
static struct error *check_refused(const struct vcpu *vcpu, const struct kvm_msr_entry *wanted)
{
	union msr_batch batch = { .msrs.nmsrs = 1 };
	struct kvm_msr_entry *found = &batch.msrs.entries[0];
	u32 done = 0;

	*found = (struct kvm_msr_entry){ .index = wanted->index };

	struct error *err = get_batch(vcpu, &batch, &done);

	if (err)
		return err;
	if (done ? found->data == wanted->data : !wanted->data)
		return NULL;
	return error_create(ERROR_UNSUPPORTED, "KVM_SET_MSRS: KVM refuses MSR 0x%x = 0x%llx, it is %s%llx",
			    wanted->index, wanted->data, done ? "0x" : "not there, ", found->data);
}

struct error *vcpu_msrs_load(const struct vcpu *vcpu, const struct vcpu_parts *parts)
{
	u32 total = vcpu_parts_msr_count(parts);

	for (u32 pos = 0; pos < total;) {
		union msr_batch batch = { .msrs.nmsrs = 0 };
		u32 count = total - pos, done = 0;

		if (count > VCPU_MSRS_MAX)
			count = VCPU_MSRS_MAX;
		batch.msrs.nmsrs = count;
		for (u32 i = 0; i < count; i++) {
			struct vcpu_msr msr = vcpu_parts_msr(parts, pos + i);

			batch.msrs.entries[i] = (struct kvm_msr_entry){ .index = msr.index, .data = msr.value };
		}

		struct error *err = KVM_IOCTL_RET(vcpu->fd, KVM_SET_MSRS, &batch, "model-specific registers",
						  (int *)&done);

		if (!err && done < count)
			err = check_refused(vcpu, &batch.msrs.entries[done]);
		if (err)
			return err;
		pos += done < count ? done + 1 : count;
	}
	return NULL;
}
