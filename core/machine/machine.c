// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/machine.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "machine/frozen.h"
#include "machine/internal.h"
#include "machine/watch_internal.h"
#include "x86/apicid.h"
#include "x86/boot.h"
#include "x86/cpuid.h"
#include "x86/layout.h"

enum {
	CONSOLE_LOG_LIMIT = 4 << 20,
	LAST_WORDS_LIMIT = 64 << 10,
};

const char *exit_reason_name(enum exit_reason reason)
{
	static const char *const names[] = {
		[EXIT_EXTERNAL_KILL] = "ExternalKill",
		[EXIT_SHUTDOWN] = "Shutdown",
		[EXIT_FATAL] = "Fatal",
		[EXIT_RUN_ERROR] = "RunError",
		[EXIT_TIMEOUT] = "Timeout",
	};

	return names[reason];
}

/* --- creation --- */

static struct error *vcpu_prepare(struct machine *m, const struct kvm_cpuid2 *supported, u32 index)
{
	struct vcpu_thread *t = &m->vcpus[index];
	struct error *err = vcpu_init(&t->vcpu, &m->vm, apic_id(&m->topology, index));

	if (err)
		return err;
	m->vcpu_count++;
	t->machine = m;
	t->index = index;
	if (index == 0)
		err = vcpu_get_tsc_khz(&t->vcpu, &m->cpuid_options.tsc_khz);
	if (err)
		return err;

	struct kvm_cpuid2 *cpuid;

	err = cpuid_build(supported, &m->topology, index, &m->cpuid_options, &cpuid);
	if (err)
		return err;
	err = vcpu_set_cpuid(&t->vcpu, cpuid);
	if (index == 0)
		m->cpuid = cpuid;
	else
		free(cpuid);
	return err;
}

struct error *machine_create_vcpus(struct machine *m)
{
	u32 count = topology_cpus(&m->topology);
	struct kvm_cpuid2 *supported = NULL;

	m->cpuid_options.tsc_deadline = kvm_capability(&m->kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	m->vcpus = calloc(count, sizeof(*m->vcpus));
	if (!m->vcpus)
		return error_no_memory();

	struct error *err = kvm_supported_cpuid(&m->kvm, 0, &supported);

	for (u32 i = 0; !err && i < count; i++)
		err = vcpu_prepare(m, supported, i);
	free(supported);
	if (!err)
		err = machine_init_freeze(m);
	return err;
}

/* What firmware would leave to the kernel. */
static struct error *set_boot_msrs(struct machine *m)
{
	struct kvm_msr_entry msrs[BOOT_MSRS];
	u32 count = boot_msrs(msrs, BOOT_MSRS);
	struct error *err = NULL;

	for (u32 i = 0; !err && i < m->vcpu_count; i++)
		err = vcpu_set_msrs(&m->vcpus[i].vcpu, msrs, count);
	return err;
}

static struct error *bsp_prepare(struct machine *m, u64 entry, bool la57)
{
	struct vcpu *bsp = &m->vcpus[0].vcpu;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct error *err = vcpu_get_sregs(bsp, &sregs);

	if (err)
		return err;
	boot_fill_sregs(&sregs, la57, m->split_irqchip);
	err = vcpu_set_sregs(bsp, &sregs);
	if (err)
		return err;
	boot_fill_regs(&regs, entry);
	return vcpu_set_regs(bsp, &regs);
}

static struct error *create_memory(struct machine *m, int fd)
{
	u64 size = topology_memory(&m->topology);

	if (fd >= 0)
		return guest_memory_init_file(&m->memory, size, LAYOUT_HOLE_START, LAYOUT_HOLE_END, fd);
	return guest_memory_init(&m->memory, size, LAYOUT_HOLE_START, LAYOUT_HOLE_END);
}

/* Memory slots come before the interrupt controllers: the other way round costs milliseconds. */
static struct error *create_board(struct machine *m, int memory_fd)
{
	struct error *err = kvm_open(&m->kvm, KVM_DEVICE);

	if (err)
		return err;
	m->stage = STAGE_KVM;
	err = create_memory(m, memory_fd);
	if (err)
		return err;
	m->stage = STAGE_MEMORY;
	m->split_irqchip = apic_id_needs_x2apic(&m->topology);
	err = vm_init(&m->vm, &m->kvm, &m->memory, m->split_irqchip ? VM_IRQCHIP_SPLIT : VM_IRQCHIP_KERNEL,
		      apic_id_max(&m->topology));
	if (err)
		return err;
	m->stage = STAGE_VM;
	err = irq_routes_init(&m->routes, &m->vm);
	if (err)
		return err;
	m->stage = STAGE_ROUTES;
	return board_init(m);
}

static struct error *init(struct machine *m, int memory_fd)
{
	pthread_mutex_init(&m->lock, NULL);
	m->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->ended_fd < 0)
		return error_create_errno("eventfd for a machine's end");

	struct error *err = textlog_init(&m->console_log, CONSOLE_LOG_LIMIT);

	if (!err)
		err = textlog_init(&m->last_words, LAST_WORDS_LIMIT);
	if (!err)
		err = create_board(m, memory_fd);
	return err;
}

struct error *machine_create_board(const struct topology *topology, int memory_fd, struct machine **ret)
{
	struct error *err = topology_check(topology);

	if (err)
		return err;

	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		return error_no_memory();
	m->topology = *topology;
	err = init(m, memory_fd);
	if (err) {
		machine_destroy(m);
		return err;
	}
	*ret = m;
	return NULL;
}

static struct error *make_ready(struct machine *m, const struct machine_config *config)
{
	u64 entry;
	struct error *err = machine_load_guest(m, config, &entry);

	guest_memory_advise_huge(&m->memory);
	if (!err)
		err = machine_create_vcpus(m);
	if (!err)
		err = set_boot_msrs(m);
	if (!err)
		err = bsp_prepare(m, entry, config->la57);
	return err;
}

struct error *machine_create(const struct machine_config *config, struct machine **ret)
{
	struct error *err = machine_create_board(&config->topology, -1, ret);

	if (err)
		return err;
	(*ret)->cpuid_options = (struct cpuid_options){
		.steal_time = config->steal_time,
		.invariant_tsc = config->invariant_tsc,
		.la57 = config->la57,
	};
	err = make_ready(*ret, config);
	if (err) {
		machine_destroy(*ret);
		*ret = NULL;
	}
	return err;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	machine_stop(m, EXIT_EXTERNAL_KILL);
	machine_join(m);
	machine_deinit_freeze(m);
	watches_destroy(m->watches);
	for (u32 i = 0; i < m->vcpu_count; i++)
		vcpu_deinit(&m->vcpus[i].vcpu);
	free(m->vcpus);
	free(m->cpuid);
	board_deinit(m);
	if (m->stage >= STAGE_ROUTES)
		irq_routes_deinit(&m->routes);
	if (m->stage >= STAGE_VM)
		vm_deinit(&m->vm);
	if (m->stage >= STAGE_MEMORY)
		guest_memory_deinit(&m->memory);
	if (m->stage >= STAGE_KVM)
		kvm_close(&m->kvm);
	textlog_deinit(&m->last_words);
	textlog_deinit(&m->console_log);
	if (m->ended_fd >= 0)
		close(m->ended_fd);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* --- running --- */

void machine_set_detail(struct machine *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	pthread_mutex_lock(&m->lock);
	if (!m->result.detail[0])
		vsnprintf(m->result.detail, sizeof(m->result.detail), fmt, ap);
	pthread_mutex_unlock(&m->lock);
	va_end(ap);
}

static void signal_ended(struct machine *m)
{
	u64 one = 1;
	ssize_t ignored = write(m->ended_fd, &one, sizeof(one));

	(void)ignored;
}

void machine_vcpu_ended(struct machine *m)
{
	if (__atomic_sub_fetch(&m->vcpus_left, 1, __ATOMIC_ACQ_REL) == 0)
		signal_ended(m);
}

struct error *machine_start(struct machine *m)
{
	struct error *err = NULL;

	m->start_ns = clock_now_ns();
	m->started = true;
	m->vcpus_left = m->vcpu_count;
	if (m->clocks.stopped)
		machine_resume_clocks(m);
	for (u32 i = 0; !err && i < m->vcpu_count; i++) {
		err = vcpu_thread_start(&m->vcpus[i]);
		if (!err)
			continue;
		// Those that never started must not be waited for.
		machine_stop(m, EXIT_EXTERNAL_KILL);
		if (__atomic_sub_fetch(&m->vcpus_left, m->vcpu_count - i, __ATOMIC_ACQ_REL) == 0)
			signal_ended(m);
	}
	return err;
}

void machine_stop(struct machine *m, enum exit_reason reason)
{
	u32 none = 0;

	if (!__atomic_compare_exchange_n(&m->stop, &none, (u32)reason + 1, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_ACQUIRE))
		return;
	for (u32 i = 0; i < m->vcpu_count; i++)
		vcpu_thread_kick(&m->vcpus[i]);
}

bool machine_has_stop(const struct machine *m)
{
	return machine_is_stopping(m);
}

u32 machine_cpus(const struct machine *m)
{
	return m->vcpu_count;
}

const struct placed_kernel *machine_kernel(const struct machine *m)
{
	return &m->kernel;
}

int machine_ended_fd(const struct machine *m)
{
	return m->ended_fd;
}

void machine_join(struct machine *m)
{
	struct pollfd ended = { .fd = m->ended_fd, .events = POLLIN };

	// A vCPU's thread may be kicking its peers until it has ended; none is joined before that.
	while (m->started && poll(&ended, 1, -1) < 0)
		;
	for (u32 i = 0; i < m->vcpu_count; i++)
		vcpu_thread_join(&m->vcpus[i]);
	m->result.code = m->result.reason == EXIT_SHUTDOWN ? 0 : -1;
	m->result.timed_out = m->result.reason == EXIT_TIMEOUT;
}

const struct machine_result *machine_result(const struct machine *m)
{
	return &m->result;
}

struct virtio_console *machine_virtio_console(struct machine *m)
{
	return &m->console;
}

void machine_listen(struct machine *m, u32 port, const struct console_port *listener)
{
	m->port_taps[port] = *listener;
}

struct textlog *machine_console_log(struct machine *m)
{
	return &m->console_log;
}

struct textlog *machine_last_words(struct machine *m)
{
	return &m->last_words;
}

void machine_on_console(struct machine *m, void (*wake)(void *ctx, const void *text, size_t size), void *ctx)
{
	m->console_wake = wake;
	m->console_ctx = ctx;
}
