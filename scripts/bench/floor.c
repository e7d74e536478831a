// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The floor under a VMM's start: a static program that makes only the KVM calls that any VMM must make, in
 * the order that costs least, and prints how long after its execve the first guest instruction can run.
 *
 * usage: floor [RUNS [VCPUS...]]     (20 runs of 1, 4 and 16 vCPUs)
 *
 * A line each: vCPUs; microseconds from execve to the boot CPU's first KVM_RUN: least, median; to that of
 * the last vCPU: least, median; to the first exit, whose instruction is the guest's first: least, median.
 *
 * It starts itself with a time stamp taken just before execve, so loading the program counts, and
 * tearing down does not. Depends on libc and <linux/kvm.h> alone, on nothing of the project.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	VCPUS_MAX = 252,
	RUNS_MAX = 1000,
	CODE_GPA = 0x1000,
	CPUID_ENTRIES = 128,
};

struct times {
	uint64_t boot_entry, last_entry, first_exit; /* ns after execve */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int check(int result, const char *what)
{
	if (result >= 0)
		return result;
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}
#define CALL(fd, request, arg) check(ioctl(fd, request, arg), #request)

/* --- the child: one start --- */

struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES];
};

struct vcpu {
	int fd;
	struct kvm_run *run;
	const struct cpuid *cpuid;
	uint64_t entry; /* when KVM_RUN was about to be called; 0: not yet */
};

static void *map_run(int fd, int size)
{
	void *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	check(run == MAP_FAILED ? -1 : 0, "mmap of a vCPU");
	return run;
}

static int create_vm(int kvm, size_t memory_size)
{
	static const uint8_t code[] = { 0xe6, 0xe9, 0xf4 }; /* out 0xe9, al; hlt */
	uint64_t identity_map = 0xfffbc000;
	uint8_t *memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int vm = CALL(kvm, KVM_CREATE_VM, 0);

	check(memory == MAP_FAILED ? -1 : 0, "mmap of the memory");
	memcpy(memory + CODE_GPA, code, sizeof(code));

	struct kvm_userspace_memory_region region = {
		.memory_size = memory_size,
		.userspace_addr = (uintptr_t)memory,
	};

	// Before the irqchip: afterwards it costs ten times as much.
	CALL(vm, KVM_SET_USER_MEMORY_REGION, &region);
	CALL(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	CALL(vm, KVM_SET_TSS_ADDR, identity_map + 0x1000);
	CALL(vm, KVM_CREATE_IRQCHIP, 0);
	return vm;
}

static void *run_secondary(void *arg)
{
	struct vcpu *vcpu = arg;

	CALL(vcpu->fd, KVM_SET_CPUID2, vcpu->cpuid);
	__atomic_store_n(&vcpu->entry, now_ns(), __ATOMIC_RELEASE);
	ioctl(vcpu->fd, KVM_RUN, 0); // waits for a SIPI that never comes
	return NULL;
}

static void set_boot_registers(const struct vcpu *vcpu)
{
	struct kvm_regs regs = { .rip = CODE_GPA, .rflags = 2 };
	struct kvm_sregs sregs;

	CALL(vcpu->fd, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	CALL(vcpu->fd, KVM_SET_SREGS, &sregs);
	CALL(vcpu->fd, KVM_SET_REGS, &regs);
}

static uint64_t wait_last_entry(const struct vcpu *vcpus, uint32_t count)
{
	uint64_t last = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t entry;

		while (!(entry = __atomic_load_n(&vcpus[i].entry, __ATOMIC_ACQUIRE)))
			sched_yield();
		if (entry > last)
			last = entry;
	}
	return last;
}

static int child(uint32_t count, uint64_t start)
{
	static struct cpuid cpuid = { .head.nent = CPUID_ENTRIES };
	static struct vcpu vcpus[VCPUS_MAX];
	size_t memory_size = (count > 4 ? count : 4) * (64UL << 20);
	int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int run_size = CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	int vm = create_vm(kvm, memory_size);
	struct times times;
	pthread_t thread;

	CALL(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	for (uint32_t i = 0; i < count; i++) {
		vcpus[i].fd = CALL(vm, KVM_CREATE_VCPU, i);
		vcpus[i].run = map_run(vcpus[i].fd, run_size);
		vcpus[i].cpuid = &cpuid;
	}
	CALL(vcpus[0].fd, KVM_SET_CPUID2, &cpuid);
	set_boot_registers(&vcpus[0]);
	for (uint32_t i = 1; i < count; i++) {
		errno = pthread_create(&thread, NULL, run_secondary, &vcpus[i]);
		check(errno ? -1 : 0, "a vCPU's thread");
	}
	vcpus[0].entry = now_ns();
	CALL(vcpus[0].fd, KVM_RUN, 0);
	times.first_exit = now_ns() - start;
	if (vcpus[0].run->exit_reason != KVM_EXIT_IO) {
		fprintf(stderr, "floor: exit %u instead of a port write\n", vcpus[0].run->exit_reason);
		return 1;
	}
	times.boot_entry = vcpus[0].entry - start;
	times.last_entry = wait_last_entry(vcpus, count) - start;
	if (write(STDOUT_FILENO, &times, sizeof(times)) != sizeof(times))
		return 1;
	_exit(0); // its threads wait in KVM for ever
}

/* --- the parent: many starts --- */

static struct times start_once(uint32_t count)
{
	char vcpus[16], stamp[32];
	struct times times;
	int fds[2], status;

	check(pipe(fds), "pipe");
	snprintf(vcpus, sizeof(vcpus), "%u", count);

	pid_t pid = check(fork(), "fork");

	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		snprintf(stamp, sizeof(stamp), "%llu", (unsigned long long)now_ns());
		execl("/proc/self/exe", "floor", "--child", vcpus, stamp, NULL);
		_exit(127);
	}
	close(fds[1]);

	bool complete = read(fds[0], &times, sizeof(times)) == sizeof(times);

	close(fds[0]);
	check(waitpid(pid, &status, 0), "waitpid");
	if (!complete || status != 0)
		exit(1); // the child has said why
	return times;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void print_least_and_median(uint64_t *ns, uint32_t runs)
{
	qsort(ns, runs, sizeof(ns[0]), compare);
	printf("\t%.0f\t%.0f", (double)ns[0] / 1000, (double)ns[runs / 2] / 1000);
}

static void measure(uint32_t count, uint32_t runs)
{
	static uint64_t boot[RUNS_MAX], last[RUNS_MAX], first_exit[RUNS_MAX];

	for (uint32_t i = 0; i < runs; i++) {
		struct times t = start_once(count);

		boot[i] = t.boot_entry;
		last[i] = t.last_entry;
		first_exit[i] = t.first_exit;
	}
	printf("%u", count);
	print_least_and_median(boot, runs);
	print_least_and_median(last, runs);
	print_least_and_median(first_exit, runs);
	printf("\n");
	fflush(stdout);
}

static uint32_t parse(const char *text, uint32_t most)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*end || v < 1 || v > most) {
		fprintf(stderr, "floor: '%s' is not a number from 1 to %u\n"
				"usage: floor [RUNS [VCPUS...]]\n",
			text, most);
		exit(2);
	}
	return (uint32_t)v;
}

int main(int argc, char **argv)
{
	static const uint32_t usual[] = { 1, 4, 16 };
	uint32_t runs = 20;

	if (argc == 4 && strcmp(argv[1], "--child") == 0)
		return child(parse(argv[2], VCPUS_MAX), strtoull(argv[3], NULL, 10));
	if (argc > 1)
		runs = parse(argv[1], RUNS_MAX);
	for (int i = 2; i < argc; i++)
		measure(parse(argv[i], VCPUS_MAX), runs);
	for (size_t i = 0; argc < 3 && i < sizeof(usual) / sizeof(usual[0]); i++)
		measure(usual[i], runs);
	return 0;
}
