/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 16550A serial port: COM1 is the kernel's console, COM2 carries last words.
 * Depends on base and device/bus.h. Eight ports from the caller's base.
 * Transmits at once (THRE is always set); every condition that is to interrupt does, none is lost.
 */
#ifndef DEVICE_UART_H
#define DEVICE_UART_H

#include "device/bus.h"

enum {
	UART_PORTS = 8,
	UART_INPUT_SIZE = 4096, /* bytes that may wait for the guest; to the guest it is the receive FIFO */
};

struct uart_config {
	u32 gsi;
	struct irq_sink irq;
	/* What the guest sent. On its vCPU thread, under the port's lock: do not call the port from it. */
	void (*output)(void *ctx, const void *data, size_t size);
	/*
	 * Optional: the guest read input after uart_input() had taken less than offered. Same thread and lock
	 * as output: pass it on (loop_wake), do not write from it.
	 */
	void (*writable)(void *ctx);
	void *ctx;
};

struct uart {
	struct uart_config config;
	pthread_mutex_t lock;
	u8 ier, lcr, mcr, lsr_errors, msr, scr, fcr, dll, dlm;
	bool thre_pending; /* the transmitter went empty and the guest has not been told yet */
	bool line; /* level of the interrupt line */
	bool short_input; /* uart_input() took less than it was offered */
	u32 input_head, input_count;
	u8 input[UART_INPUT_SIZE];
};

MUST_CHECK struct error *uart_init(struct uart *uart, const struct uart_config *config);
void uart_deinit(struct uart *uart);

/* For the guest to read. Any thread. Returns how many bytes were taken; the rest is the caller's. */
size_t uart_input(struct uart *uart, const void *data, size_t size);

extern const struct device_ops uart_ops; /* the device is a struct uart; on the port bus */
extern const struct device_state_ops uart_com1_state_ops, uart_com2_state_ops; /* they differ in name */

#endif
