// SPDX-License-Identifier: GPL-2.0-or-later
#include "device_fixture.h"

#include <linux/serial_reg.h>

#include "device/uart.h"

enum { GSI = 4 };

struct rig {
	struct uart uart;
	struct irq_record irq;
	char output[256];
	size_t size;
	u32 writable;
};

static void rig_output(void *ctx, const void *data, size_t size)
{
	struct rig *r = ctx;

	assert_true(r->size + size <= sizeof(r->output));
	memcpy(r->output + r->size, data, size);
	r->size += size;
}

static void rig_writable(void *ctx)
{
	((struct rig *)ctx)->writable++;
}

static void rig_init(struct rig *r)
{
	const struct uart_config config = {
		.gsi = GSI,
		.irq = record_sink(&r->irq),
		.output = rig_output,
		.writable = rig_writable,
		.ctx = r,
	};

	memset(r, 0, sizeof(*r));
	assert_fine(uart_init(&r->uart, &config));
}

static u8 in(struct rig *r, u32 reg)
{
	u8 value;

	uart_ops.read(&r->uart, reg, &value, 1);
	return value;
}

static void out(struct rig *r, u32 reg, u8 value)
{
	uart_ops.write(&r->uart, reg, &value, 1);
}

static void bytes_go_out_as_written(void **state)
{
	struct rig r;

	rig_init(&r);
	for (const char *p = "hello\n"; *p; p++) {
		assert_true(in(&r, UART_LSR) & UART_LSR_THRE);
		out(&r, UART_TX, *p);
	}
	assert_int_equal(r.size, 6);
	assert_memory_equal(r.output, "hello\n", 6);
	assert_int_equal(r.irq.rises, 0);
	uart_deinit(&r.uart);
}

static void the_divisor_latch_hides_data_and_interrupt_enable(void **state)
{
	struct rig r;

	rig_init(&r);
	out(&r, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(&r, UART_DLL, 12);
	out(&r, UART_DLM, 1);
	assert_int_equal(in(&r, UART_DLL), 12);
	assert_int_equal(in(&r, UART_DLM), 1);
	out(&r, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(in(&r, UART_IER), 0);
	assert_int_equal(r.size, 0);
	assert_int_equal(in(&r, UART_LCR), UART_LCR_WLEN8);
	uart_deinit(&r.uart);
}

// What drivers look at to tell a 16550A from its relatives.
static void it_is_found_to_be_a_16550a(void **state)
{
	struct rig r;

	rig_init(&r);
	out(&r, UART_IER, 0xff);
	assert_int_equal(in(&r, UART_IER), 0x0f);
	out(&r, UART_IER, 0);
	out(&r, UART_SCR, 0xa5);
	assert_int_equal(in(&r, UART_SCR), 0xa5);
	out(&r, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(&r, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(&r, UART_MCR, 0);
	assert_int_equal(in(&r, UART_IIR) >> 6, 0);
	out(&r, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(in(&r, UART_IIR) >> 6, 3);
	out(&r, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(in(&r, UART_IIR) & 0x20, 0);
	out(&r, UART_FCR, 0);
	assert_int_equal(in(&r, UART_IIR), UART_IIR_NO_INT);
	uart_deinit(&r.uart);
}

static void enabling_thri_interrupts_each_time_and_reading_iir_acknowledges(void **state)
{
	struct rig r;

	rig_init(&r);
	for (u32 i = 1; i <= 3; i++) {
		out(&r, UART_IER, UART_IER_THRI);
		assert_int_equal(r.irq.rises, i);
		assert_int_equal(in(&r, UART_IIR), UART_IIR_THRI);
		assert_int_equal(r.irq.level, 0);
		assert_int_equal(in(&r, UART_IIR), UART_IIR_NO_INT);
		out(&r, UART_IER, 0);
	}
	// Enabling it again while it is enabled is no reason.
	out(&r, UART_IER, UART_IER_THRI);
	in(&r, UART_IIR);
	out(&r, UART_IER, UART_IER_THRI | UART_IER_RDI);
	assert_int_equal(r.irq.level, 0);
	assert_int_equal(r.irq.gsi, GSI);
	uart_deinit(&r.uart);
}

static void each_byte_sent_gives_an_edge(void **state)
{
	struct rig r;

	rig_init(&r);
	out(&r, UART_IER, UART_IER_THRI);
	for (u32 i = 2; i <= 5; i++) {
		out(&r, UART_TX, 'x'); // the one before was not acknowledged: the line is still high
		assert_int_equal(r.irq.rises, i);
		assert_int_equal(r.irq.level, 1);
	}
	// An interrupt-driven transmitter ends by turning THRI off.
	out(&r, UART_IER, 0);
	assert_int_equal(r.irq.level, 0);
	uart_deinit(&r.uart);
}

static void input_interrupts_until_it_is_read(void **state)
{
	struct rig r;

	rig_init(&r);
	out(&r, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	assert_int_equal(uart_input(&r.uart, "ab", 2), 2);
	assert_int_equal(r.irq.level, 0);
	out(&r, UART_IER, UART_IER_RDI);
	assert_int_equal(r.irq.level, 1);
	assert_int_equal(in(&r, UART_IIR) & 0x0f, UART_IIR_RX_TIMEOUT);
	assert_int_equal(uart_input(&r.uart, "cdefgh", 6), 6);
	assert_int_equal(in(&r, UART_IIR) & 0x0f, UART_IIR_RDI);
	for (char c = 'a'; c <= 'h'; c++) {
		assert_int_equal(r.irq.level, 1);
		assert_true(in(&r, UART_LSR) & UART_LSR_DR);
		assert_int_equal(in(&r, UART_RX), c);
	}
	assert_int_equal(r.irq.level, 0);
	assert_false(in(&r, UART_LSR) & UART_LSR_DR);
	assert_int_equal(in(&r, UART_RX), 0);
	uart_deinit(&r.uart);
}

static void received_data_outranks_an_empty_transmitter_and_neither_is_lost(void **state)
{
	struct rig r;

	rig_init(&r);
	out(&r, UART_IER, UART_IER_RDI | UART_IER_THRI);
	uart_input(&r.uart, "z", 1);
	assert_int_equal(in(&r, UART_IIR), UART_IIR_RDI);
	assert_int_equal(in(&r, UART_RX), 'z');
	assert_int_equal(r.irq.level, 1);
	assert_int_equal(in(&r, UART_IIR), UART_IIR_THRI);
	assert_int_equal(r.irq.level, 0);
	uart_deinit(&r.uart);
}

static void input_is_bounded_and_says_when_to_go_on(void **state)
{
	struct rig r;
	char data[UART_INPUT_SIZE + 10];

	rig_init(&r);
	for (u32 i = 0; i < sizeof(data); i++)
		data[i] = i * 7;
	assert_int_equal(uart_input(&r.uart, data, sizeof(data)), UART_INPUT_SIZE);
	assert_int_equal(uart_input(&r.uart, data, 1), 0);
	for (u32 i = 0; i < UART_INPUT_SIZE; i++) {
		assert_int_equal(r.writable, i >= UART_INPUT_SIZE / 2);
		assert_int_equal(in(&r, UART_RX), (u8)data[i]);
	}
	assert_int_equal(r.writable, 1);
	assert_int_equal(uart_input(&r.uart, data, 5), 5);
	in(&r, UART_RX);
	assert_int_equal(r.writable, 1);
	out(&r, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_false(in(&r, UART_LSR) & UART_LSR_DR);
	uart_deinit(&r.uart);
}

static void loopback_returns_bytes_and_overruns(void **state)
{
	struct rig r;

	rig_init(&r);
	out(&r, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(&r, UART_MCR, UART_MCR_LOOP);
	assert_int_equal(uart_input(&r.uart, "host", 4), 0);
	out(&r, UART_IER, UART_IER_RLSI);
	for (u32 i = 0; i < 17; i++)
		out(&r, UART_TX, i);
	assert_int_equal(r.size, 0);
	assert_int_equal(in(&r, UART_IIR) & 0x0f, UART_IIR_RLSI);
	assert_true(in(&r, UART_LSR) & UART_LSR_OE);
	assert_false(in(&r, UART_LSR) & UART_LSR_OE);
	assert_int_equal(r.irq.level, 0);
	for (u32 i = 0; i < 16; i++)
		assert_int_equal(in(&r, UART_RX), i);
	assert_false(in(&r, UART_LSR) & UART_LSR_DR);
	uart_deinit(&r.uart);
}

static void modem_status_changes_interrupt_once(void **state)
{
	struct rig r;

	rig_init(&r);
	assert_int_equal(in(&r, UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	out(&r, UART_IER, UART_IER_MSI);
	out(&r, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR | UART_MCR_OUT1);
	assert_int_equal(r.irq.level, 1);
	assert_int_equal(in(&r, UART_IIR), UART_IIR_MSI);
	assert_int_equal(in(&r, UART_MSR), UART_MSR_DSR | UART_MSR_RI | UART_MSR_DDCD | UART_MSR_DCTS);
	assert_int_equal(r.irq.level, 0);
	out(&r, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR);
	assert_int_equal(in(&r, UART_MSR), UART_MSR_DSR | UART_MSR_TERI);
	uart_deinit(&r.uart);
}

static void its_state_survives_in_mid_activity(void **state)
{
	struct rig a, b;
	struct buf bad;

	rig_init(&a);
	rig_init(&b);
	out(&a, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_14);
	out(&a, UART_IER, UART_IER_RDI | UART_IER_THRI);
	out(&a, UART_SCR, 0x5a);
	in(&a, UART_IIR);
	for (u32 i = 0; i < UART_INPUT_SIZE - 2; i++) { // so that what waits wraps round
		uart_input(&a.uart, "w", 1);
		in(&a, UART_RX);
	}
	uart_input(&a.uart, "abcde", 5);
	round_trip(&uart_com1_state_ops, &a.uart, &b.uart);
	// The interrupt controller's own state has the level already.
	assert_int_equal(b.irq.rises, 0);
	b.irq.level = 1;
	for (char c = 'a'; c <= 'e'; c++)
		assert_int_equal(in(&b, UART_RX), c);
	assert_int_equal(b.irq.falls, 1);
	assert_int_equal(in(&b, UART_SCR), 0x5a);

	bad = state_of(&uart_com1_state_ops, &a.uart);
	bad.data[4] = 0xf0; // IER
	assert_error(load_bytes(&uart_com1_state_ops, &b.uart, bad.data, bad.size), ERROR_FORMAT);
	buf_deinit(&bad);
	uart_deinit(&a.uart);
	uart_deinit(&b.uart);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_go_out_as_written),
		cmocka_unit_test(the_divisor_latch_hides_data_and_interrupt_enable),
		cmocka_unit_test(it_is_found_to_be_a_16550a),
		cmocka_unit_test(enabling_thri_interrupts_each_time_and_reading_iir_acknowledges),
		cmocka_unit_test(each_byte_sent_gives_an_edge),
		cmocka_unit_test(input_interrupts_until_it_is_read),
		cmocka_unit_test(received_data_outranks_an_empty_transmitter_and_neither_is_lost),
		cmocka_unit_test(input_is_bounded_and_says_when_to_go_on),
		cmocka_unit_test(loopback_returns_bytes_and_overruns),
		cmocka_unit_test(modem_status_changes_interrupt_once),
		cmocka_unit_test(its_state_survives_in_mid_activity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
