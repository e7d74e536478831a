/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The least machine that boots the tiny guest: core/kvm, an ELF loader, two serial ports, no PCI.
 * Depends on cmocka, kvm_fixture.h, core/kvm and core/x86; for tests alone.
 * It shows that the guest needs nothing but the boot protocol, whatever core/machine does.
 */
#ifndef TESTS_CORE_TINY_VMM_H
#define TESTS_CORE_TINY_VMM_H

#include <elf.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>

#include "core/kvm_fixture.h"
#include "tiny/tiny.h"
#include "x86/acpi.h"
#include "x86/apicid.h"
#include "x86/boot.h"
#include "x86/layout.h"

enum {
	TINY_VMM_CPUS = 8,
	TINY_VMM_TEXT = 4096,
	TINY_VMM_KICK = SIGUSR1,
};

struct tiny_vmm {
	struct kvm kvm;
	struct guest_memory memory;
	struct vm vm;
	struct topology topology;
	u32 cpus;
	struct vcpu vcpus[TINY_VMM_CPUS];
	pthread_t threads[TINY_VMM_CPUS];
	bool stop; /* atomic */
	/* The boot CPU's thread alone writes what follows; read it after tiny_vmm_wait(). */
	char com1[TINY_VMM_TEXT], com2[TINY_VMM_TEXT];
	size_t com1_size, com2_size;
	u32 exits; /* of the boot CPU, so far */
	u32 first_port, first_byte; /* its first exit */
	u16 end_port; /* what ended it: a write here, or 0 */
	u32 end_exit; /* or this exit */
};

/* build/tests/core/test_x -> build/guest/tiny */
static inline void tiny_path(char path[static PATH_MAX])
{
	char self[PATH_MAX] = "";

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(path, PATH_MAX, "%s/../../guest/tiny", dirname(self));
}

/* An ordinary loader: each PT_LOAD to its physical address. Returns the entry point. */
static inline u64 tiny_load(const struct guest_memory *memory, u64 *end)
{
	char path[PATH_MAX];
	Elf64_Ehdr header;
	Elf64_Phdr ph;

	tiny_path(path);

	FILE *f = fopen(path, "re");

	assert_non_null(f);
	assert_int_equal(fread(&header, sizeof(header), 1, f), 1);
	assert_memory_equal(header.e_ident, ELFMAG, SELFMAG);
	assert_int_equal(header.e_ident[EI_CLASS], ELFCLASS64);
	assert_int_equal(header.e_type, ET_EXEC);
	assert_int_equal(header.e_machine, EM_X86_64);
	*end = 0;
	for (u32 i = 0; i < header.e_phnum; i++) {
		assert_int_equal(fseek(f, (long)(header.e_phoff + i * sizeof(ph)), SEEK_SET), 0);
		assert_int_equal(fread(&ph, sizeof(ph), 1, f), 1);
		if (ph.p_type != PT_LOAD)
			continue;

		void *to = guest_memory_at(memory, ph.p_paddr, ph.p_memsz);

		assert_non_null(to);
		assert_true(ph.p_memsz >= ph.p_filesz);
		assert_int_equal(fseek(f, (long)ph.p_offset, SEEK_SET), 0);
		assert_int_equal(fread(to, 1, ph.p_filesz, f), ph.p_filesz);
		if (ph.p_paddr + ph.p_memsz > *end)
			*end = ph.p_paddr + ph.p_memsz;
	}
	fclose(f);
	return header.e_entry;
}

static inline u64 tiny_vmm_place(struct tiny_vmm *v, const char *cmdline)
{
	struct buf tables = BUF_INIT;
	u64 end, entry = tiny_load(&v->memory, &end);
	const struct boot_options boot = {
		.kernel = { .load_gpa = 0x1000000, .span = end - 0x1000000, .entry_gpa = entry },
		.cmdline = cmdline,
		.rsdp_gpa = LAYOUT_ACPI_GPA,
	};

	assert_no_error(boot_write(&v->memory, &boot));
	assert_no_error(acpi_build(&v->topology, LAYOUT_ACPI_GPA, &tables));
	memcpy(guest_memory_at(&v->memory, LAYOUT_ACPI_GPA, tables.size), tables.data, tables.size);
	buf_deinit(&tables);
	return entry;
}

static inline void tiny_vmm_init(struct tiny_vmm *v, const char *cmdline, u32 cores)
{
	struct kvm_cpuid2 *cpuid;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	memset(v, 0, sizeof(*v));
	assert_no_error(topology_init(&v->topology, 1, 1, cores, 1, 32 << 20));
	v->cpus = topology_cpus(&v->topology);
	assert_true(v->cpus <= TINY_VMM_CPUS);
	assert_no_error(kvm_open(&v->kvm, KVM_DEVICE));
	assert_no_error(guest_memory_init(&v->memory, 32 << 20, LAYOUT_HOLE_START, LAYOUT_HOLE_END));
	assert_no_error(
		vm_init(&v->vm, &v->kvm, &v->memory, VM_IRQCHIP_KERNEL, apic_id_max(&v->topology)));

	u64 entry = tiny_vmm_place(v, cmdline);

	assert_no_error(kvm_supported_cpuid(&v->kvm, 0, &cpuid));
	for (u32 i = 0; i < v->cpus; i++) {
		struct kvm_cpuid_entry2 *leaf1 = cpuid_find(cpuid, 1, 0), *leafb = cpuid_find(cpuid, 0xb, 0);
		u32 id = apic_id(&v->topology, i);

		leaf1->ebx = (leaf1->ebx & 0xffffff) | id << 24;
		if (leafb)
			leafb->edx = id;
		assert_no_error(vcpu_init(&v->vcpus[i], &v->vm, id));
		assert_no_error(vcpu_set_cpuid(&v->vcpus[i], cpuid));
	}
	free(cpuid);
	assert_no_error(vcpu_get_sregs(&v->vcpus[0], &sregs));
	boot_fill_sregs(&sregs, false, false);
	assert_no_error(vcpu_set_sregs(&v->vcpus[0], &sregs));
	boot_fill_regs(&regs, entry);
	assert_no_error(vcpu_set_regs(&v->vcpus[0], &regs));
}

static inline void tiny_vmm_out(struct tiny_vmm *v, u16 port, u8 byte)
{
	if (!v->exits++) {
		v->first_port = port;
		v->first_byte = byte;
	}
	if (port == LAYOUT_COM1_PORT && v->com1_size < TINY_VMM_TEXT - 1)
		v->com1[v->com1_size++] = (char)byte;
	else if (port == LAYOUT_COM2_PORT && v->com2_size < TINY_VMM_TEXT - 1)
		v->com2[v->com2_size++] = (char)byte;
	else if ((port == LAYOUT_I8042_PORT + 4 && byte == 0xfe) || port == LAYOUT_PM_CONTROL_PORT)
		v->end_port = port;
}

/* Whether the boot CPU goes on. */
static inline bool tiny_vmm_serve(struct tiny_vmm *v, struct kvm_run *run)
{
	u8 *data = (u8 *)run + run->io.data_offset;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		for (u32 i = 0; i < run->io.count; i++, data += run->io.size) {
			if (run->io.direction == KVM_EXIT_IO_OUT)
				tiny_vmm_out(v, run->io.port, *data);
			else
				memset(data, 0xff, run->io.size);
		}
		return !v->end_port;
	case KVM_EXIT_MMIO:
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		return true;
	default:
		v->end_exit = run->exit_reason;
		return false;
	}
}

struct tiny_vmm_thread {
	struct tiny_vmm *v;
	u32 cpu;
};

static inline void *tiny_vmm_run(void *arg)
{
	struct tiny_vmm_thread t = *(struct tiny_vmm_thread *)arg;
	struct vcpu *vcpu = &t.v->vcpus[t.cpu];
	enum vcpu_run_result result;

	free(arg);
	while (!__atomic_load_n(&t.v->stop, __ATOMIC_ACQUIRE)) {
		struct error *err = vcpu_run(vcpu, &result);

		if (err) {
			print_error("%s\n", error_message(err));
			error_destroy(err);
			break;
		}
		if (result == VCPU_EXIT && t.cpu == 0 && !tiny_vmm_serve(t.v, vcpu->run))
			break;
	}
	return NULL;
}

static inline void tiny_vmm_ignore(int signo)
{
}

static inline void tiny_vmm_start(struct tiny_vmm *v)
{
	struct sigaction action = { .sa_handler = tiny_vmm_ignore };

	sigaction(TINY_VMM_KICK, &action, NULL);
	for (u32 i = 0; i < v->cpus; i++) {
		struct tiny_vmm_thread *t = malloc(sizeof(*t));

		assert_non_null(t);
		*t = (struct tiny_vmm_thread){ .v = v, .cpu = i };
		assert_int_equal(pthread_create(&v->threads[i], NULL, tiny_vmm_run, t), 0);
	}
}

/* Waits until the boot CPU has ended by itself. */
static inline void tiny_vmm_wait(struct tiny_vmm *v)
{
	pthread_join(v->threads[0], NULL);
	v->threads[0] = 0;
}

static inline void tiny_vmm_deinit(struct tiny_vmm *v)
{
	__atomic_store_n(&v->stop, true, __ATOMIC_RELEASE);
	for (u32 i = 0; i < v->cpus; i++) {
		if (!v->threads[i])
			continue;
		vcpu_request_exit(&v->vcpus[i]);
		pthread_kill(v->threads[i], TINY_VMM_KICK);
		pthread_join(v->threads[i], NULL);
	}
	for (u32 i = 0; i < v->cpus; i++)
		vcpu_deinit(&v->vcpus[i]);
	vm_deinit(&v->vm);
	guest_memory_deinit(&v->memory);
	kvm_close(&v->kvm);
}

/* Boots it on one CPU and waits for its end. */
static inline void tiny_vmm_boot(struct tiny_vmm *v, const char *cmdline)
{
	tiny_vmm_init(v, cmdline, 1);
	tiny_vmm_start(v);
	tiny_vmm_wait(v);
}

#endif
