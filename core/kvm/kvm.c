// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/kvm.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"

/* More than any KVM reports; 7.3 has about 100. */
enum { CPUID_ENTRIES_MAX = 512 };

struct error *kvm_ioctl(int fd, unsigned long request, const char *name, const void *arg,
			const char *purpose, int *ret)
{
	int result;

	// KVM_CREATE_VM and a few others give up when a signal is pending.
	do {
		result = ioctl(fd, request, arg);
	} while (result < 0 && errno == EINTR);
	if (result < 0)
		return error_create_errno("%s (%s)", name, purpose);
	if (ret)
		*ret = result;
	return NULL;
}

static struct error *open_failed(const char *path)
{
	struct error *err;

	switch (errno) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		err = error_create(ERROR_NOT_FOUND, "there is no %s on this machine", path);
		return error_with_hint(err, "switch on virtualization in the firmware (or nested virtualization "
					    "for a virtual machine) and load kvm-intel or kvm-amd, or run under "
					    "scripts/with-kvm");
	case EACCES:
	case EPERM:
		err = error_create_errno("%s cannot be opened by this user", path);
		return error_with_hint(err, "add the user to the group that owns it: sudo usermod -aG kvm "
					    "$USER, then log in again");
	default:
		return error_create_errno("%s cannot be opened", path);
	}
}

struct error *kvm_open(struct kvm *kvm, const char *path)
{
	struct error *err;
	int version = 0, size = 0;
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);

	kvm->fd = -1;
	if (fd < 0)
		return open_failed(path);

	err = KVM_IOCTL_RET(fd, KVM_GET_API_VERSION, 0, "is this KVM?", &version);
	if (err)
		return error_with_context(err, "%s", path);
	if (version != KVM_API_VERSION)
		return error_with_hint(error_create(ERROR_UNSUPPORTED, "%s speaks version %d of the KVM API, not %d",
						    path, version, KVM_API_VERSION),
				       "use a Linux kernel from 2.6.22 or later, or run under scripts/with-kvm");
	err = KVM_IOCTL_RET(fd, KVM_GET_VCPU_MMAP_SIZE, 0, "size of a vCPU's run page", &size);
	if (err)
		return err;
	kvm->run_size = (size_t)size;
	kvm->fd = no_close(fd);
	return NULL;
}

void kvm_close(struct kvm *kvm)
{
	if (kvm->fd >= 0)
		close(kvm->fd);
	kvm->fd = -1;
}

int kvm_capability(const struct kvm *kvm, u32 capability)
{
	int value = ioctl(kvm->fd, KVM_CHECK_EXTENSION, (unsigned long)capability);

	return value < 0 ? 0 : value;
}

static struct kvm_cpuid2 *cpuid_allocate(u32 entries)
{
	struct kvm_cpuid2 *cpuid;

	cpuid = calloc(1, sizeof(*cpuid) + entries * sizeof(cpuid->entries[0]));
	if (cpuid)
		cpuid->nent = entries;
	return cpuid;
}

/* KVM leaves the processor's name empty; a guest shows it to people, so it gets the host's. */
static void add_processor_name(struct kvm_cpuid2 *cpuid)
{
	for (u32 leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
		struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, leaf, 0);

		if (e && !(e->eax | e->ebx | e->ecx | e->edx))
			__get_cpuid(leaf, &e->eax, &e->ebx, &e->ecx, &e->edx);
	}
}

struct error *kvm_supported_cpuid(const struct kvm *kvm, u32 spare, struct kvm_cpuid2 **ret)
{
	// Room from the start for what is usual: asking twice costs a third of a millisecond.
	for (u32 entries = 128; entries <= CPUID_ENTRIES_MAX; entries *= 2) {
		CLEANUP_FREE struct kvm_cpuid2 *cpuid = cpuid_allocate(entries + spare);

		if (!cpuid)
			return error_no_memory();
		cpuid->nent = entries;
		if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid) == 0) {
			add_processor_name(cpuid);
			*ret = no_free(cpuid);
			return NULL;
		}
		if (errno != E2BIG)
			return error_create_errno("KVM_GET_SUPPORTED_CPUID (what a vCPU may be)");
	}
	return error_create(ERROR_UNSUPPORTED, "KVM_GET_SUPPORTED_CPUID has more than %d entries", CPUID_ENTRIES_MAX);
}

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, u32 leaf, u32 subleaf)
{
	for (u32 i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

		if (e->function == leaf && (!indexed || e->index == subleaf))
			return e;
	}
	return NULL;
}
