// SPDX-License-Identifier: GPL-2.0-or-later
#include <cpuid.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/kvm_fixture.h"
#include "kvm/kvm.h"

static void a_missing_device_names_the_remedy(void **state)
{
	struct kvm kvm;
	struct error *err = kvm_open(&kvm, "/nonexistent/kvm");

	assert_non_null(err);
	assert_non_null(strstr(error_hint(err), "kvm-intel"));
	assert_error(err, ERROR_NOT_FOUND, "/nonexistent/kvm");
	assert_int_equal(kvm.fd, -1);
	kvm_close(&kvm);
}

/* Root may open anything, so another user tries. */
static void a_forbidden_device_names_the_remedy(void **state)
{
	char path[] = "/tmp/ktstr-test-XXXXXX";
	int fd = mkstemp(path), status;

	assert_true(fd >= 0);
	fchmod(fd, 0);
	close(fd);

	pid_t child = fork();

	if (child == 0) {
		struct kvm kvm;

		if (geteuid() == 0 && setuid(65534) != 0)
			_exit(2);
		struct error *err = kvm_open(&kvm, path);
		bool fine = err && error_code(err) == ERROR_OS && strstr(error_message(err), path) &&
			    error_hint(err) && strstr(error_hint(err), "usermod");

		_exit(fine ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	unlink(path);
	assert_int_equal(status, 0);
}

static void a_device_that_is_not_kvm_is_refused(void **state)
{
	u32 before = count_descriptors();
	struct kvm kvm;

	assert_error(kvm_open(&kvm, "/dev/null"), ERROR_OS, "KVM_GET_API_VERSION");
	assert_int_equal(kvm.fd, -1);
	assert_int_equal(count_descriptors(), before);
}

static void an_unknown_capability_is_zero(void **state)
{
	struct kvm kvm;

	SKIP_WITHOUT_KVM();
	assert_no_error(kvm_open(&kvm, KVM_DEVICE));
	assert_int_equal(kvm_capability(&kvm, 0x7fffffff), 0);
	assert_true(kvm_capability(&kvm, KVM_CAP_USER_MEMORY) > 0);
	assert_true(kvm.run_size >= sizeof(struct kvm_run));
	kvm_close(&kvm);
}

static void supported_cpuid_has_room_to_spare(void **state)
{
	struct kvm_cpuid2 *cpuid;
	struct kvm kvm;

	SKIP_WITHOUT_KVM();
	assert_no_error(kvm_open(&kvm, KVM_DEVICE));
	assert_no_error(kvm_supported_cpuid(&kvm, 3, &cpuid));
	assert_true(cpuid->nent > 4);
	for (u32 i = 0; i < 3; i++)
		cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){ .function = 0xdead0000 + i };
	assert_non_null(cpuid_find(cpuid, 0, 0));
	assert_non_null(cpuid_find(cpuid, 0xdead0002, 0));
	free(cpuid);
	kvm_close(&kvm);
}

static void supported_cpuid_has_the_processors_name(void **state)
{
	struct kvm_cpuid2 *cpuid;
	struct kvm kvm;
	u32 name[12];

	SKIP_WITHOUT_KVM();
	assert_no_error(kvm_open(&kvm, KVM_DEVICE));
	assert_no_error(kvm_supported_cpuid(&kvm, 0, &cpuid));
	for (u32 i = 0; i < 3; i++) {
		const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0x80000002 + i, 0);

		if (!e) {
			free(cpuid);
			kvm_close(&kvm);
			skip();
		}
		assert_int_equal(__get_cpuid(0x80000002 + i, &name[4 * i], &name[4 * i + 1], &name[4 * i + 2],
					     &name[4 * i + 3]),
				 1);
		assert_int_equal(e->eax, name[4 * i]);
		assert_int_equal(e->edx, name[4 * i + 3]);
	}
	assert_in_range(((char *)name)[0], ' ', '~');
	free(cpuid);
	kvm_close(&kvm);
}

static void a_subleaf_counts_only_where_it_matters(void **state)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 3 * sizeof(cpuid->entries[0]));

	assert_non_null(cpuid);
	cpuid->nent = 3;
	cpuid->entries[0] = (struct kvm_cpuid_entry2){ .function = 1 };
	cpuid->entries[1] = (struct kvm_cpuid_entry2){ .function = 4, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX };
	cpuid->entries[2] =
		(struct kvm_cpuid_entry2){ .function = 4, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX };
	assert_ptr_equal(cpuid_find(cpuid, 1, 7), &cpuid->entries[0]);
	assert_ptr_equal(cpuid_find(cpuid, 4, 0), &cpuid->entries[1]);
	assert_ptr_equal(cpuid_find(cpuid, 4, 1), &cpuid->entries[2]);
	assert_null(cpuid_find(cpuid, 4, 2));
	assert_null(cpuid_find(cpuid, 2, 0));
	free(cpuid);
}

static void a_failed_ioctl_is_named_with_its_purpose(void **state)
{
	struct error *err = KVM_IOCTL(-1, KVM_CREATE_VM, 0, "a new machine");

	assert_non_null(err);
	assert_non_null(strstr(error_message(err), "a new machine"));
	assert_error(err, ERROR_OS, "KVM_CREATE_VM");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_missing_device_names_the_remedy),
		cmocka_unit_test(a_forbidden_device_names_the_remedy),
		cmocka_unit_test(a_device_that_is_not_kvm_is_refused),
		cmocka_unit_test(an_unknown_capability_is_zero),
		cmocka_unit_test(supported_cpuid_has_room_to_spare),
		cmocka_unit_test(supported_cpuid_has_the_processors_name),
		cmocka_unit_test(a_subleaf_counts_only_where_it_matters),
		cmocka_unit_test(a_failed_ioctl_is_named_with_its_purpose),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
