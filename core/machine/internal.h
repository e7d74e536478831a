/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of struct machine, for the files of core/machine alone.
 * Depends on machine.h. lock guards result.detail and the stop; the rest is set before the start.
 */
#ifndef MACHINE_INTERNAL_H
#define MACHINE_INTERNAL_H

#include <pthread.h>

#include "device/bus.h"
#include "device/i8042.h"
#include "device/ioapic.h"
#include "device/pci.h"
#include "device/pic.h"
#include "device/pm.h"
#include "device/uart.h"
#include "kvm/irq.h"
#include "kvm/kvm.h"
#include "kvm/memory.h"
#include "kvm/vm.h"
#include "machine/machine.h"
#include "machine/vcpu_thread.h"
#include "x86/cpuid.h"

/* What the guest did to end the machine. */
enum guest_end {
	GUEST_RUNS,
	GUEST_RESET,
	GUEST_POWER_OFF,
};

/* A device's message-signalled interrupts: vector i is GSI first_gsi + i, raised by fds[i]. */
struct msix_block {
	struct machine *machine;
	u32 first_gsi, count;
	int fds[MSIX_MAX_VECTORS];
};

struct watches;

/* How far machine_create() got: each stage is undone by machine_destroy(). */
enum machine_stage {
	STAGE_NONE,
	STAGE_KVM,
	STAGE_MEMORY,
	STAGE_VM,
	STAGE_ROUTES,
	STAGE_BUSES,
	STAGE_SERIAL,
	STAGE_POWER,
	STAGE_IOAPIC,
	STAGE_PCI,
	STAGE_MSIX,
	STAGE_CONSOLE,
};

struct machine {
	enum machine_stage stage;
	struct topology topology;
	struct placed_kernel kernel;
	bool split_irqchip;
	struct kvm kvm;
	struct guest_memory memory;
	struct vm vm;
	struct irq_routes routes;

	struct bus ports, mmio;
	struct uart com1, com2;
	struct i8042 i8042;
	struct pm pm;
	struct ioapic ioapic; /* with a split irqchip only, like the PICs */
	struct pic pics[2];
	struct pci_host pci;
	struct virtio_console console;
	struct msix_block console_msix;
	struct console_port port_taps[CONSOLE_PORTS]; /* who listens to each port */

	struct textlog console_log, last_words;
	void (*console_wake)(void *ctx, const void *text, size_t size);
	void *console_ctx;

	pthread_mutex_t lock;
	u32 stop; /* 0, or 1 + the enum exit_reason that was asked for; atomic */
	u32 guest_end; /* enum guest_end; atomic */
	pid_t guest_end_tid; /* the thread whose access ended it; written before guest_end */
	const char *reset_by; /* likewise: which device, for GUEST_RESET */
	bool started;
	u64 start_ns;
	u32 vcpus_left; /* atomic; the last one to end signals ended_fd */
	int ended_fd;
	struct machine_result result;

	u32 vcpu_count;
	struct vcpu_thread *vcpus;

	struct cpuid_options cpuid_options; /* what the guest was shown, beside the host's own */
	struct kvm_cpuid2 *cpuid; /* of CPU 0, as it was set */
	struct rendezvous rendezvous;
	struct park_slot *park_slots;
	struct clocks clocks;
	bool long_frozen; /* atomic: the last freeze was; written before the thaw */
	bool is_loading; /* routes are handed to KVM once, when all is loaded */
	struct watches *watches; /* NULL before the first; it comes while all are parked */
	void (*watch_wake)(void *ctx);
	void *watch_ctx;
	bool replay_due; /* its devices' interrupts and kicks have been lost over a save, and are to come again */
};

static inline bool machine_is_stopping(const struct machine *m)
{
	// Sequentially consistent, as is all of the handshake with vcpu_thread_kick().
	return __atomic_load_n(&m->stop, __ATOMIC_SEQ_CST) != 0;
}

/* For a vCPU that leaves its park. */
static inline bool machine_was_long_frozen(const struct machine *m)
{
	return __atomic_load_n(&m->long_frozen, __ATOMIC_RELAXED);
}

static inline enum exit_reason machine_stop_reason(const struct machine *m)
{
	return (enum exit_reason)(__atomic_load_n(&m->stop, __ATOMIC_ACQUIRE) - 1);
}

void machine_ioapic_eoi(struct machine *m, u8 vector);
/* Called by each vCPU's thread as its last act. */
void machine_vcpu_ended(struct machine *m);

/* board.c: the devices and their way to the interrupt controllers. */
MUST_CHECK struct error *board_init(struct machine *m);
void board_deinit(struct machine *m);

/* machine.c: a machine with devices and memory, and no vCPU; fd is a file with the memory's contents, -1: zero. */
MUST_CHECK struct error *machine_create_board(const struct topology *topology, int memory_fd, struct machine **ret);
/* Its vCPUs, as they are after a reset; m->cpuid_options but for what the host tells. */
MUST_CHECK struct error *machine_create_vcpus(struct machine *m);

/* frozen.c: what a freeze needs of it; after the vCPUs have been made. */
MUST_CHECK struct error *machine_init_freeze(struct machine *m);
void machine_deinit_freeze(struct machine *m);

/* load.c: kernel, initrd, firmware tables; entry is where the BSP starts. */
MUST_CHECK struct error *machine_load_guest(struct machine *m, const struct machine_config *config, u64 *entry);

#endif
