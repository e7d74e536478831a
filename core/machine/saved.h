/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A frozen machine as bytes, and a machine made of them: vCPUs, interrupt controllers, devices, clocks.
 * Depends on machine.h. Its memory is a file's: the caller's to write and to keep unchanged.
 * The bytes are believed only as far as they make sense; their checksum is the caller's business.
 */
#ifndef MACHINE_SAVED_H
#define MACHINE_SAVED_H

#include "base/buf.h"
#include "machine/machine.h"

struct saved_machine {
	const void *state; /* what machine_save() wrote */
	size_t size;
	int memory_fd; /* at its offset 0 the guest's memory starts; not closed here */
};

/* Everything but the memory's contents. For the coordinator's thread, while every vCPU is parked. */
MUST_CHECK struct error *machine_save(struct machine *m, struct buf *out);

/*
 * A machine that goes on where the saved one stood, once it is started. ERROR_FORMAT: not a saved machine;
 * ERROR_UNSUPPORTED: this host's CPU or KVM is another, and how.
 */
MUST_CHECK struct error *machine_create_saved(const struct saved_machine *saved, struct machine **ret);

/*
 * Puts a machine back to where it stood: memory, vCPUs, devices, clocks. Same thread, all parked; they stay so. An
 * error may leave it in pieces: end it then. ERROR_INVALID: saved from another kind of machine.
 */
MUST_CHECK struct error *machine_rewind(struct machine *m, const struct saved_machine *saved);

#endif
