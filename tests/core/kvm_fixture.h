/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tests of core/kvm share: error assertions, leak counters, a machine with one page of code.
 * Depends on cmocka and core/kvm; included after cmocka.h.
 * A test that wants KVM skips, and says so, only where there is no /dev/kvm.
 */
#ifndef TESTS_CORE_KVM_FIXTURE_H
#define TESTS_CORE_KVM_FIXTURE_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/types.h"
#include "kvm/kvm.h"
#include "kvm/memory.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"

static inline void assert_no_error_(struct error *err, const char *file, int line)
{
	if (!err)
		return;
	print_error("%s:%d: %s\n", file, line, error_message(err));
	error_destroy(err);
	_fail(file, line);
}
#define assert_no_error(err) assert_no_error_(err, __FILE__, __LINE__)

/* An error of that code whose message contains the text. */
static inline void assert_error_(struct error *err, enum error_code code, const char *text, const char *file,
				 int line)
{
	bool fine = err && error_code(err) == code && strstr(error_message(err), text);

	if (!fine)
		print_error("%s:%d: expected %s with '%s', got %s: %s\n", file, line, error_code_name(code), text,
			    err ? error_code_name(error_code(err)) : "no error", err ? error_message(err) : "");
	error_destroy(err);
	if (!fine)
		_fail(file, line);
}
#define assert_error(err, code, text) assert_error_(err, code, text, __FILE__, __LINE__)

static inline u32 count_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	u32 count = 0;

	assert_non_null(f);
	for (int c = fgetc(f); c != EOF; c = fgetc(f))
		count += c == '\n';
	fclose(f);
	return count;
}

static inline u32 count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	u32 count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* What a machine that was not taken down would leave in this process. */
struct footprint {
	u32 descriptors;
	u32 vcpu_mappings;
	u64 bytes; /* of address space */
};

static inline struct footprint footprint_now(void)
{
	struct footprint f = { .descriptors = count_descriptors() };
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		assert_int_equal(sscanf(line, "%lx-%lx ", &start, &end), 2);
		f.bytes += end - start;
		f.vcpu_mappings += strstr(line, "kvm-vcpu") != NULL;
	}
	fclose(maps);
	return f;
}

/*
 * After rounds of something that reserves at least 2 MiB each. The allocator, thread stacks and sanitizers
 * have memory of their own, so address space may grow by less than that.
 */
static inline void assert_footprint(const struct footprint *before, u32 rounds)
{
	struct footprint now = footprint_now();

	assert_int_equal(now.descriptors, before->descriptors);
	assert_int_equal(now.vcpu_mappings, before->vcpu_mappings);
	assert_true(now.bytes < before->bytes + rounds * (1ULL << 20));
}

#define SKIP_WITHOUT_KVM()                                             \
	do {                                                           \
		if (access(KVM_DEVICE, F_OK) != 0) {                   \
			print_message("skipped: no " KVM_DEVICE "\n"); \
			skip();                                        \
		}                                                      \
	} while (0)

/* A machine of 2 MiB with one vCPU, in real mode at CODE_GPA. */
struct fixture {
	struct kvm kvm;
	struct guest_memory memory;
	struct vm vm;
	struct vcpu vcpu;
};

enum {
	FIXTURE_MEMORY = 2 << 20,
	CODE_GPA = 0x1000,
};

static inline void fixture_init(struct fixture *f, enum vm_irqchip irqchip, const void *code, size_t size)
{
	struct kvm_regs regs = { .rip = CODE_GPA, .rsp = CODE_GPA, .rflags = 2 };
	struct kvm_cpuid2 *cpuid;
	struct kvm_sregs sregs;

	assert_no_error(kvm_open(&f->kvm, KVM_DEVICE));
	assert_no_error(guest_memory_init(&f->memory, FIXTURE_MEMORY, FIXTURE_MEMORY, 1ULL << 32));
	memcpy(f->memory.base + CODE_GPA, code, size);
	assert_no_error(vm_init(&f->vm, &f->kvm, &f->memory, irqchip, 0));
	assert_no_error(vcpu_init(&f->vcpu, &f->vm, 0));
	assert_no_error(kvm_supported_cpuid(&f->kvm, 0, &cpuid));
	assert_no_error(vcpu_set_cpuid(&f->vcpu, cpuid));
	free(cpuid);
	assert_no_error(vcpu_get_sregs(&f->vcpu, &sregs));
	sregs.cs.base = sregs.cs.selector = 0;
	assert_no_error(vcpu_set_sregs(&f->vcpu, &sregs));
	assert_no_error(vcpu_set_regs(&f->vcpu, &regs));
}

static inline void fixture_deinit(struct fixture *f)
{
	vcpu_deinit(&f->vcpu);
	vm_deinit(&f->vm);
	guest_memory_deinit(&f->memory);
	kvm_close(&f->kvm);
}

#endif
