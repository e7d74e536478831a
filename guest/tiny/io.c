// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/io.h"

#include <linux/pci_regs.h>
#include <linux/serial_reg.h>

#include "tiny/console.h"
#include "tiny/cpu.h"
#include "tiny/print.h"
#include "tiny/tiny.h"
#include "x86/layout.h"

extern const u64 io_boundaries[], io_boundaries_end[]; /* from io_loop.S */

__attribute__((noreturn)) void io_loop(u64 table, u64 entry, u32 com1, u32 com2); /* from io_loop.S */

static void publish_boundaries(void)
{
	u64 *to = (u64 *)(u64)TINY_IO_BOUNDARIES_GPA;
	size_t size = (size_t)((const u8 *)io_boundaries_end - (const u8 *)io_boundaries);

	memcpy(to + 1, io_boundaries, size);
	*to = size / sizeof(u64);
}

void io_run(void)
{
	u32 count;
	u64 table = console_vectors(&count);

	publish_boundaries();
	// What the console itself was interrupted by is overwritten.
	write32(table + PCI_MSIX_ENTRY_VECTOR_CTRL, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	out8(LAYOUT_COM2_PORT + UART_MCR, UART_MCR_LOOP);
	console_print("tiny: io\n");
	io_loop(table, table + (count - 1) * PCI_MSIX_ENTRY_SIZE, LAYOUT_COM1_PORT, LAYOUT_COM2_PORT);
}
