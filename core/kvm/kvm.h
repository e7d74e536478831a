/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /dev/kvm itself: opening it, what it can do, the CPUID it supports.
 * Depends on base and <linux/kvm.h>. Its functions may be called from any thread.
 * Every failed ioctl becomes an error that names the ioctl and what it was for.
 */
#ifndef KVM_KVM_H
#define KVM_KVM_H

#include <linux/kvm.h>

#include "base/error.h"
#include "base/types.h"

#define KVM_DEVICE "/dev/kvm"

struct kvm {
	int fd;
	size_t run_size; /* bytes of a vCPU's shared struct kvm_run */
};

/*
 * Opens path (KVM_DEVICE). ERROR_NOT_FOUND: there is no such device; ERROR_OS: it cannot be opened;
 * ERROR_UNSUPPORTED: it speaks another version of the API. Each with the remedy as its hint.
 */
MUST_CHECK struct error *kvm_open(struct kvm *kvm, const char *path);
void kvm_close(struct kvm *kvm);

/* KVM_CHECK_EXTENSION: 0 when it is not there, else what KVM says (often 1, or a count). */
int kvm_capability(const struct kvm *kvm, u32 capability);

/*
 * KVM_GET_SUPPORTED_CPUID, as many entries as there are, with the host's name for the processor. The
 * caller frees it. It has room for `spare` more entries than nent says, for the caller to add.
 */
MUST_CHECK struct error *kvm_supported_cpuid(const struct kvm *kvm, u32 spare, struct kvm_cpuid2 **ret);

/* The entry of a leaf and subleaf (subleaf 0 where it does not matter), or NULL. */
struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, u32 leaf, u32 subleaf);

/*
 * One checked ioctl: ERROR_OS "KVM_X (what for): reason" when it returns a negative number. The result is
 * stored in ret where that is not NULL. name is the ioctl's name.
 */
MUST_CHECK struct error *kvm_ioctl(int fd, unsigned long request, const char *name, const void *arg,
				   const char *purpose, int *ret);
/* The same with the request's name made from the request. */
#define KVM_IOCTL(fd, request, arg, purpose) \
	kvm_ioctl(fd, request, #request, (const void *)(uintptr_t)(arg), purpose, NULL)
#define KVM_IOCTL_RET(fd, request, arg, purpose, ret) \
	kvm_ioctl(fd, request, #request, (const void *)(uintptr_t)(arg), purpose, ret)

#endif
