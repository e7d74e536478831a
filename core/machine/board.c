// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine/internal.h"
#include "x86/apicid.h"
#include "x86/layout.h"

enum { CONSOLE_SLOT = 1 };

/* An interrupt controller that KVM refuses to program leaves a guest that hangs: end it and say why. */
static void interrupt_failed(struct machine *m, struct error *err)
{
	if (!err)
		return;
	machine_set_detail(m, "%s", error_message(err));
	error_destroy(err);
	machine_stop(m, EXIT_FATAL);
}

/* Hands changed routes to KVM: a grace period in the host, so that a whole board's are handed over at once. */
static void commit_routes(struct machine *m)
{
	if (!m->is_loading)
		interrupt_failed(m, irq_routes_commit(&m->routes));
}

/* --- pins --- */

static void set_level(void *ctx, u32 gsi, bool level)
{
	struct machine *m = ctx;

	if (m->split_irqchip)
		ioapic_set_level(&m->ioapic, gsi, level);
	else
		interrupt_failed(m, vm_set_irq_line(&m->vm, gsi, level));
}

static const struct irq_ops pin_ops = { .set_level = set_level };

static void ioapic_deliver(void *ctx, u64 address, u32 data)
{
	struct machine *m = ctx;

	interrupt_failed(m, vm_signal_msi(&m->vm, msi_kvm_address(address), data, NULL));
}

static void ioapic_route(void *ctx, u32 pin, u64 address, u32 data, bool masked)
{
	struct machine *m = ctx;
	struct irq_message message = { .address = msi_kvm_address(address), .data = data, .valid = true };

	(void)masked; // KVM wants to know the vector of masked pins too
	interrupt_failed(m, irq_routes_set(&m->routes, pin, &message));
	commit_routes(m);
}

static const struct ioapic_sink_ops ioapic_sink_ops = {
	.deliver = ioapic_deliver,
	.route = ioapic_route,
};

void machine_ioapic_eoi(struct machine *m, u8 vector)
{
	ioapic_eoi(&m->ioapic, vector);
}

/* --- MSI-X --- */

static void msix_update(void *ctx, u32 index, u64 address, u32 data, bool masked)
{
	struct msix_block *block = ctx;
	struct machine *m = block->machine;
	struct irq_message message = { .address = msi_kvm_address(address), .data = data, .valid = true };

	// A masked vector is never raised, and setting a route costs a grace period in the host.
	if (masked || index >= block->count)
		return;
	interrupt_failed(m, irq_routes_set(&m->routes, block->first_gsi + index, &message));
	commit_routes(m);
}

static void block_raise(void *ctx, u32 index)
{
	struct msix_block *block = ctx;
	u64 one = 1;

	if (index >= block->count)
		return;
	// A full counter means that the interrupt is pending already.
	ssize_t ignored = write(block->fds[index], &one, sizeof(one));

	(void)ignored;
}

static const struct irq_ops msix_ops = {
	.set_level = set_level,
	.msix_update = msix_update,
	.msix_raise = block_raise,
};

static struct error *msix_block_init(struct msix_block *block, struct machine *m, u32 count)
{
	*block = (struct msix_block){ .machine = m };

	struct error *err = irq_routes_allocate(&m->routes, count, &block->first_gsi);

	if (err)
		return err;
	for (; block->count < count; block->count++) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		if (fd < 0)
			return error_create_errno("eventfd for interrupt vector %u", block->count);
		block->fds[block->count] = fd;
		err = vm_irqfd_add(&m->vm, block->first_gsi + block->count, fd, -1);
		if (err) {
			close(fd);
			return err;
		}
	}
	return NULL;
}

static void msix_block_deinit(struct msix_block *block)
{
	for (u32 i = 0; i < block->count; i++)
		close(block->fds[i]);
	block->count = 0;
}

/* --- doorbells --- */

static struct error *doorbell_add(void *ctx, u64 address, u32 size, int fd)
{
	struct machine *m = ctx;

	return vm_ioeventfd_add(&m->vm, VM_SPACE_MMIO, address, size, fd);
}

static void doorbell_remove(void *ctx, u64 address, u32 size, int fd)
{
	struct machine *m = ctx;

	interrupt_failed(m, vm_ioeventfd_remove(&m->vm, VM_SPACE_MMIO, address, size, fd));
}

static const struct doorbell_ops doorbell_ops = { .add = doorbell_add, .remove = doorbell_remove };

/* --- serial ports --- */

static void com1_output(void *ctx, const void *data, size_t size)
{
	struct machine *m = ctx;

	textlog_append(&m->console_log, data, size);
	if (m->console_wake)
		m->console_wake(m->console_ctx, data, size);
}

static void com2_output(void *ctx, const void *data, size_t size)
{
	struct machine *m = ctx;

	textlog_append(&m->last_words, data, size);
}

/* --- the end --- */

static void guest_ended(struct machine *m, enum guest_end end, const char *by)
{
	pthread_mutex_lock(&m->lock);
	if (__atomic_load_n(&m->guest_end, __ATOMIC_RELAXED) == GUEST_RUNS) {
		m->guest_end_tid = gettid();
		m->reset_by = by;
		__atomic_store_n(&m->guest_end, end, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&m->lock);
}

static void on_reset(void *ctx, const char *by)
{
	guest_ended(ctx, GUEST_RESET, by);
}

static void on_power_off(void *ctx)
{
	guest_ended(ctx, GUEST_POWER_OFF, NULL);
}

static const struct power_ops power_ops = { .reset = on_reset, .power_off = on_power_off };

/* --- the board --- */

static struct error *add_buses(struct machine *m)
{
	struct error *err = bus_init(&m->ports);

	if (err)
		return err;
	err = bus_init(&m->mmio);
	if (err) {
		bus_deinit(&m->ports);
		return err;
	}
	m->stage = STAGE_BUSES;
	return NULL;
}

static struct error *add_serial(struct machine *m)
{
	struct irq_sink pins = { .ops = &pin_ops, .ctx = m };
	struct uart_config com1 = {
		.gsi = LAYOUT_COM1_GSI,
		.irq = pins,
		.output = com1_output,
		.ctx = m,
	};
	struct uart_config com2 = {
		.gsi = LAYOUT_COM2_GSI,
		.irq = pins,
		.output = com2_output,
		.ctx = m,
	};
	struct error *err = uart_init(&m->com1, &com1);

	if (err)
		return err;
	err = uart_init(&m->com2, &com2);
	if (err) {
		uart_deinit(&m->com1);
		return err;
	}
	m->stage = STAGE_SERIAL;
	err = bus_add(&m->ports, LAYOUT_COM1_PORT, UART_PORTS, &uart_ops, &m->com1);
	if (!err)
		err = bus_add(&m->ports, LAYOUT_COM2_PORT, UART_PORTS, &uart_ops, &m->com2);
	return err;
}

static struct error *add_power(struct machine *m)
{
	struct power_sink power = { .ops = &power_ops, .ctx = m };
	struct error *err = pm_init(&m->pm, power, LAYOUT_PM_SLP_TYP_S5);

	if (err)
		return err;
	m->stage = STAGE_POWER;
	i8042_init(&m->i8042, power);
	err = bus_add(&m->ports, I8042_PORT, I8042_PORTS, &i8042_ops, &m->i8042);
	if (!err)
		err = bus_add(&m->ports, LAYOUT_PM_PORT, PM_PORTS, &pm_ops, &m->pm);
	return err;
}

/* What is in the kernel otherwise. */
static struct error *add_irqchip(struct machine *m)
{
	struct ioapic_sink sink = { .ops = &ioapic_sink_ops, .ctx = m };
	struct error *err = ioapic_init(&m->ioapic, 0, sink);

	if (err)
		return err;
	m->stage = STAGE_IOAPIC;
	err = bus_add(&m->mmio, LAYOUT_IOAPIC_GPA, IOAPIC_SIZE, &ioapic_ops, &m->ioapic);
	pic_init(&m->pics[0]);
	pic_init(&m->pics[1]);
	if (!err)
		err = bus_add(&m->ports, PIC_MASTER_PORT, PIC_PORTS, &pic_ops, &m->pics[0]);
	if (!err)
		err = bus_add(&m->ports, PIC_SLAVE_PORT, PIC_PORTS, &pic_ops, &m->pics[1]);
	return err;
}

static struct error *add_pci(struct machine *m)
{
	struct pci_host_config config = {
		.mmio = &m->mmio,
		.windows = {
			{ .start = LAYOUT_PCI32_GPA, .size = LAYOUT_PCI32_SIZE },
			{ .start = layout_pci64_gpa(m->memory.size), .size = LAYOUT_PCI64_SIZE },
		},
		.power = { .ops = &power_ops, .ctx = m },
	};
	struct error *err = pci_host_init(&m->pci, &config);

	if (err)
		return err;
	m->stage = STAGE_PCI;
	err = bus_add(&m->ports, PCI_PORT, PCI_PORTS, &pci_port_ops, &m->pci);
	if (!err)
		err = bus_add(&m->mmio, LAYOUT_ECAM_GPA, PCI_ECAM_SIZE, &pci_ecam_ops, &m->pci);
	return err;
}

static size_t port_input(void *ctx, const void *data, size_t size)
{
	struct console_port *tap = ctx;

	return tap->ops ? tap->ops->input(tap->ctx, data, size) : size;
}

static void port_writable(void *ctx)
{
	struct console_port *tap = ctx;

	if (tap->ops && tap->ops->writable)
		tap->ops->writable(tap->ctx);
}

static void port_opened(void *ctx, bool open)
{
	struct console_port *tap = ctx;

	if (tap->ops && tap->ops->opened)
		tap->ops->opened(tap->ctx, open);
}

static const struct console_port_ops tap_ops = {
	.input = port_input,
	.writable = port_writable,
	.opened = port_opened,
};

static struct error *add_console(struct machine *m)
{
	struct error *err = msix_block_init(&m->console_msix, m, CONSOLE_VECTORS);

	m->stage = STAGE_MSIX;
	if (err)
		return err;

	struct virtio_console_config config = {
		.memory = &m->memory,
		.irq = { .ops = &msix_ops, .ctx = &m->console_msix },
		.doorbell = { .ops = &doorbell_ops, .ctx = m },
	};

	for (u32 i = 0; i < CONSOLE_PORTS; i++)
		config.ports[i] = (struct console_port){ .ops = &tap_ops, .ctx = &m->port_taps[i] };
	err = virtio_console_init(&m->console, &config);
	if (err)
		return err;
	m->stage = STAGE_CONSOLE;
	err = pci_add(&m->pci, CONSOLE_SLOT, &m->console.virtio.pci);
	if (!err)
		err = pci_assign_bars(&m->pci);
	return err;
}

struct error *board_init(struct machine *m)
{
	struct error *err = add_buses(m);

	if (!err)
		err = add_serial(m);
	if (!err)
		err = add_power(m);
	if (!err && m->split_irqchip)
		err = add_irqchip(m);
	if (!err)
		err = add_pci(m);
	if (!err)
		err = add_console(m);
	return err;
}

void board_deinit(struct machine *m)
{
	if (m->stage >= STAGE_PCI)
		pci_host_deinit(&m->pci);
	if (m->stage >= STAGE_CONSOLE)
		virtio_console_deinit(&m->console);
	if (m->stage >= STAGE_MSIX)
		msix_block_deinit(&m->console_msix);
	if (m->stage >= STAGE_IOAPIC && m->split_irqchip)
		ioapic_deinit(&m->ioapic);
	if (m->stage >= STAGE_POWER)
		pm_deinit(&m->pm);
	if (m->stage >= STAGE_SERIAL) {
		uart_deinit(&m->com2);
		uart_deinit(&m->com1);
	}
	if (m->stage >= STAGE_BUSES) {
		bus_deinit(&m->mmio);
		bus_deinit(&m->ports);
	}
}
