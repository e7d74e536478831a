/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Accesses to devices, in a loop that leaves nothing to chance (io_loop.S).
 * Depends on console.h.
 * What it writes on COM1 comes after a line "tiny: io".
 */
#ifndef TINY_IO_H
#define TINY_IO_H

/* The console was flushed: it will not be heard of again. */
__attribute__((noreturn)) void io_run(void);

#endif
