// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/uart.h"

#include <linux/serial_reg.h>
#include <string.h>

#include "device/state.h"

enum {
	STATE_VERSION = 1,
	IER_MASK = UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI,
	MCR_MASK = UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_OUT1 | UART_MCR_RTS | UART_MCR_DTR,
	FCR_STORED = UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK,
	MSR_CONNECTED = UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS,
	IIR_FIFO_ENABLED = 0xc0, // what makes it a 16550A
	FIFO_SIZE = 16, // how much loopback can hold
	REGISTERS = 9, // saved ones
};

struct error *uart_init(struct uart *uart, const struct uart_config *config)
{
	*uart = (struct uart){
		.config = *config,
		.dll = 1, // 115200 baud
		.lcr = UART_LCR_WLEN8,
		.msr = MSR_CONNECTED,
	};

	int e = pthread_mutex_init(&uart->lock, NULL);

	return e ? error_create(ERROR_OS, "cannot create a serial port's lock: %s", strerror(e)) : NULL;
}

void uart_deinit(struct uart *uart)
{
	pthread_mutex_destroy(&uart->lock);
}

static u32 receive_trigger(const struct uart *uart)
{
	static const u8 triggers[] = { 1, 4, 8, 14 };

	if (!(uart->fcr & UART_FCR_ENABLE_FIFO))
		return 1;
	return triggers[uart->fcr >> 6];
}

// What the interrupt identification register says, highest priority first.
static u8 pending_interrupt(const struct uart *uart)
{
	if (uart->ier & UART_IER_RLSI && uart->lsr_errors)
		return UART_IIR_RLSI;
	// Bytes below the trigger level count as timed out at once: the guest never waits for more.
	if (uart->ier & UART_IER_RDI && uart->input_count)
		return uart->input_count >= receive_trigger(uart) ? UART_IIR_RDI : UART_IIR_RX_TIMEOUT;
	if (uart->ier & UART_IER_THRI && uart->thre_pending)
		return UART_IIR_THRI;
	if (uart->ier & UART_IER_MSI && uart->msr & UART_MSR_ANY_DELTA)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

static void update_line(struct uart *uart)
{
	bool line = pending_interrupt(uart) != UART_IIR_NO_INT;

	if (line == uart->line)
		return;
	uart->line = line;
	uart->config.irq.ops->set_level(uart->config.irq.ctx, uart->config.gsi, line);
}

static u8 take_input(struct uart *uart)
{
	if (!uart->input_count)
		return 0;

	u8 byte = uart->input[uart->input_head];

	uart->input_head = (uart->input_head + 1) % UART_INPUT_SIZE;
	uart->input_count--;
	return byte;
}

static void put_input(struct uart *uart, const u8 *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		uart->input[(uart->input_head + uart->input_count++) % UART_INPUT_SIZE] = data[i];
}

// In loopback the modem control outputs are the modem status inputs.
static void update_modem_status(struct uart *uart)
{
	u8 msr = MSR_CONNECTED;

	if (uart->mcr & UART_MCR_LOOP)
		msr = (uart->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
		      (uart->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
		      (uart->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
		      (uart->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);

	u8 changed = msr ^ uart->msr;
	u8 delta = uart->msr & UART_MSR_ANY_DELTA;

	if (changed & UART_MSR_CTS)
		delta |= UART_MSR_DCTS;
	if (changed & UART_MSR_DSR)
		delta |= UART_MSR_DDSR;
	if (changed & UART_MSR_DCD)
		delta |= UART_MSR_DDCD;
	if (changed & UART_MSR_RI && uart->msr & UART_MSR_RI)
		delta |= UART_MSR_TERI;
	uart->msr = msr | delta;
}

static void transmit(struct uart *uart, u8 byte)
{
	// The register is full for an instant: the line goes down and up again, so that an
	// edge-triggered interrupt comes for every byte that was sent with THRI enabled.
	uart->thre_pending = false;
	update_line(uart);
	if (!(uart->mcr & UART_MCR_LOOP)) {
		uart->config.output(uart->config.ctx, &byte, 1);
	} else if (uart->input_count < FIFO_SIZE) {
		put_input(uart, &byte, 1);
	} else {
		uart->lsr_errors |= UART_LSR_OE;
	}
	uart->thre_pending = true;
}

static void set_fifo_control(struct uart *uart, u8 value)
{
	bool toggled = (value ^ uart->fcr) & UART_FCR_ENABLE_FIFO;

	// The other bits count only with the FIFO on.
	uart->fcr = value & UART_FCR_ENABLE_FIFO ? value & FCR_STORED : 0;
	if (toggled || (value & UART_FCR_ENABLE_FIFO && value & UART_FCR_CLEAR_RCVR)) {
		uart->input_count = 0;
		uart->lsr_errors = 0;
	}
}

static u8 read_register(struct uart *uart, u32 reg)
{
	bool divisor = uart->lcr & UART_LCR_DLAB;
	u8 value;

	switch (reg) {
	case UART_RX:
		return divisor ? uart->dll : take_input(uart);
	case UART_IER:
		return divisor ? uart->dlm : uart->ier;
	case UART_IIR:
		value = pending_interrupt(uart);
		// Reading the register is what acknowledges this one, and only this one.
		if (value == UART_IIR_THRI)
			uart->thre_pending = false;
		return uart->fcr & UART_FCR_ENABLE_FIFO ? value | IIR_FIFO_ENABLED : value;
	case UART_LCR:
		return uart->lcr;
	case UART_MCR:
		return uart->mcr;
	case UART_LSR:
		value = UART_LSR_THRE | UART_LSR_TEMT | uart->lsr_errors;
		uart->lsr_errors = 0;
		return uart->input_count ? value | UART_LSR_DR : value;
	case UART_MSR:
		value = uart->msr;
		uart->msr &= ~UART_MSR_ANY_DELTA;
		return value;
	default:
		return uart->scr;
	}
}

static void write_register(struct uart *uart, u32 reg, u8 value)
{
	bool divisor = uart->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (divisor)
			uart->dll = value;
		else
			transmit(uart, value);
		break;
	case UART_IER:
		if (divisor) {
			uart->dlm = value;
			break;
		}
		// Turning it on with the transmitter empty is itself a reason to interrupt.
		if (value & ~uart->ier & UART_IER_THRI)
			uart->thre_pending = true;
		uart->ier = value & IER_MASK;
		break;
	case UART_FCR:
		set_fifo_control(uart, value);
		break;
	case UART_LCR:
		uart->lcr = value;
		break;
	case UART_MCR:
		uart->mcr = value & MCR_MASK;
		update_modem_status(uart);
		break;
	case UART_SCR:
		uart->scr = value;
		break;
	default: // line and modem status are read-only
		break;
	}
}

// Whether the host, turned away before, can now be told to go on.
static bool becomes_writable(struct uart *uart)
{
	if (!uart->short_input || uart->input_count > UART_INPUT_SIZE / 2)
		return false;
	uart->short_input = false;
	return uart->config.writable;
}

static void uart_read(void *device, u64 offset, void *data, u32 size)
{
	struct uart *uart = device;
	u8 *out = data;

	pthread_mutex_lock(&uart->lock);
	for (u32 i = 0; i < size; i++)
		out[i] = read_register(uart, offset + i);
	update_line(uart);
	if (becomes_writable(uart))
		uart->config.writable(uart->config.ctx);
	pthread_mutex_unlock(&uart->lock);
}

static void uart_write(void *device, u64 offset, const void *data, u32 size)
{
	struct uart *uart = device;
	const u8 *in = data;

	pthread_mutex_lock(&uart->lock);
	for (u32 i = 0; i < size; i++)
		write_register(uart, offset + i, in[i]);
	update_line(uart);
	if (becomes_writable(uart))
		uart->config.writable(uart->config.ctx);
	pthread_mutex_unlock(&uart->lock);
}

const struct device_ops uart_ops = { .name = "serial port", .read = uart_read, .write = uart_write };

size_t uart_input(struct uart *uart, const void *data, size_t size)
{
	pthread_mutex_lock(&uart->lock);

	// In loopback the receiver is cut off from the wire.
	size_t room = uart->mcr & UART_MCR_LOOP ? 0 : UART_INPUT_SIZE - uart->input_count;
	size_t taken = size < room ? size : room;

	put_input(uart, data, taken);
	uart->short_input = taken < size;
	update_line(uart);
	pthread_mutex_unlock(&uart->lock);
	return taken;
}

static void uart_save(void *device, struct buf *out)
{
	struct uart *uart = device;

	pthread_mutex_lock(&uart->lock);

	const u8 registers[REGISTERS] = { uart->ier, uart->lcr, uart->mcr, uart->lsr_errors, uart->msr,
					  uart->scr, uart->fcr, uart->dll, uart->dlm };

	buf_put_u32(out, STATE_VERSION);
	buf_put(out, registers, sizeof(registers));
	buf_put_u8(out, uart->thre_pending);
	buf_put_u8(out, uart->line);
	buf_put_u32(out, uart->input_count);
	for (u32 i = 0; i < uart->input_count; i++)
		buf_put_u8(out, uart->input[(uart->input_head + i) % UART_INPUT_SIZE]);
	pthread_mutex_unlock(&uart->lock);
}

static struct error *uart_load(void *device, struct reader *in)
{
	struct uart *uart = device;
	u32 version = reader_get_u32(in);
	u8 registers[REGISTERS];
	bool ok = true;

	reader_get(in, registers, sizeof(registers));

	bool thre_pending = state_get_bool(in, &ok);
	bool line = state_get_bool(in, &ok);
	u32 input_count = reader_get_u32(in);
	const u8 *input = input_count <= UART_INPUT_SIZE ? reader_take(in, input_count) : NULL;
	struct error *err = state_check(in, "serial port", version, STATE_VERSION);

	if (err)
		return err;
	if (!ok || !input || registers[0] & ~IER_MASK || registers[2] & ~MCR_MASK ||
	    registers[3] & ~UART_LSR_OE || registers[6] & ~FCR_STORED)
		return error_create(ERROR_FORMAT, "saved serial port has values that no guest can set");

	pthread_mutex_lock(&uart->lock);
	uart->ier = registers[0];
	uart->lcr = registers[1];
	uart->mcr = registers[2];
	uart->lsr_errors = registers[3];
	uart->msr = registers[4];
	uart->scr = registers[5];
	uart->fcr = registers[6];
	uart->dll = registers[7];
	uart->dlm = registers[8];
	uart->thre_pending = thre_pending;
	uart->input_head = uart->input_count = 0;
	put_input(uart, input, input_count);
	// The interrupt controller's own saved state has this level; a change from it is what it is told.
	uart->line = line;
	update_line(uart);
	pthread_mutex_unlock(&uart->lock);
	return NULL;
}

const struct device_state_ops uart_com1_state_ops = { .name = "com1", .save = uart_save, .load = uart_load };
const struct device_state_ops uart_com2_state_ops = { .name = "com2", .save = uart_save, .load = uart_load };
