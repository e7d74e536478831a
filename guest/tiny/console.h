/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-console's port 1: frames to the host and from it.
 * Depends on pci.h, trap.h, tlv/codec.h. One machine, one console: its state is this file's own.
 * Waiting is for interrupts, never by polling.
 */
#ifndef TINY_CONSOLE_H
#define TINY_CONSOLE_H

#include "base/types.h"
#include "tlv/codec.h"

/* Largest payload that it sends or takes; a longer frame from the host is skipped. */
enum { CONSOLE_PAYLOAD_MAX = 4000 };

/* Finds the device and opens port 1. False: there is none, or it does not answer as it should. */
bool console_open(void);

/* Its MSI-X table, of `count` entries; the first one is all that the console itself uses. Once it is open. */
u64 console_vectors(u32 *count);

/* Sends a frame; returns once it is in the device's queue. */
void console_send(u32 type, const void *payload, u32 length);
/* Bytes as they are, valid or not; at most CONSOLE_PAYLOAD_MAX. */
void console_send_raw(const void *data, u32 length);
/* The same without a copy: the memory is the device's from then on. */
void console_send_in_place(const void *data, u32 length);
/* Waits until the host has taken everything. */
void console_flush(void);

/* Waits for the next good frame. Its payload is valid until the next call. */
struct frame console_receive(void);

#endif
