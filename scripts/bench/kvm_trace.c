// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Preloaded into a VMM (LD_PRELOAD), tells on the descriptor KVM_TRACE_FD, a line each:
 *
 *   run NS           vCPU 0 of a machine is about to enter the guest for the first time
 *   mark NS          its guest wrote to the port KVM_TRACE_PORT for the first time
 *   memory HVA SIZE  the guest's memory, as the VMM maps it (hexadecimal)
 *
 * NS is CLOCK_MONOTONIC. The same for every VMM that uses the system's libc, so that none is measured
 * by its own account. Once all is told, an entry costs one comparison.
 */
#include <dlfcn.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MACHINES_MAX = 16 }; /* a VMM may probe KVM with small machines first */

static struct {
	int (*ioctl)(int, unsigned long, ...);
	int out;
	unsigned int port;
	/* One a machine, by its vCPU 0. */
	struct {
		int fd;
		struct kvm_run *run;
		bool entered, marked;
	} vcpu[MACHINES_MAX];
	atomic_int count;
	atomic_int unfinished; /* of them, not yet marked */
} trace;

static int number(const char *name, int otherwise)
{
	const char *text = getenv(name);

	return text ? (int)strtol(text, NULL, 0) : otherwise;
}

__attribute__((constructor)) static void start(void)
{
	trace.ioctl = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	trace.out = number("KVM_TRACE_FD", -1);
	trace.port = (unsigned int)number("KVM_TRACE_PORT", 0xe9);
}

static void tell(const char *what)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	dprintf(trace.out, "%s %llu\n", what, (unsigned long long)ts.tv_sec * 1000000000 + ts.tv_nsec);
}

static void add_vcpu(int fd)
{
	int i = atomic_fetch_add(&trace.count, 1);

	if (i >= MACHINES_MAX)
		return;
	trace.vcpu[i].fd = fd;
	trace.vcpu[i].run = mmap(NULL, sizeof(struct kvm_run), PROT_READ, MAP_SHARED, fd, 0);
	atomic_fetch_add(&trace.unfinished, 1);
}

static int find_vcpu(int fd)
{
	int count = atomic_load(&trace.count);

	// The latest first: a descriptor's number is used again.
	for (int i = count < MACHINES_MAX ? count - 1 : MACHINES_MAX - 1; i >= 0; i--) {
		if (trace.vcpu[i].fd == fd)
			return i;
	}
	return -1;
}

static int run_vcpu(int fd, void *arg)
{
	int i = atomic_load(&trace.unfinished) ? find_vcpu(fd) : -1;

	if (i < 0 || trace.vcpu[i].marked)
		return trace.ioctl(fd, KVM_RUN, arg);
	if (!trace.vcpu[i].entered) {
		trace.vcpu[i].entered = true;
		tell("run");
	}

	int result = trace.ioctl(fd, KVM_RUN, arg);
	const struct kvm_run *run = trace.vcpu[i].run;

	if (result == 0 && run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT &&
	    run->io.port == trace.port) {
		trace.vcpu[i].marked = true;
		atomic_fetch_sub(&trace.unfinished, 1);
		tell("mark");
	}
	return result;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;
	int result;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == KVM_RUN)
		return run_vcpu(fd, arg);
	result = trace.ioctl(fd, request, arg);
	if (request == KVM_CREATE_VCPU && (uintptr_t)arg == 0 && result >= 0)
		add_vcpu(result);
	if (request == KVM_SET_USER_MEMORY_REGION && result == 0) {
		const struct kvm_userspace_memory_region *region = arg;

		dprintf(trace.out, "memory %llx %llx\n", region->userspace_addr, region->memory_size);
	}
	return result;
}
