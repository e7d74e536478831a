/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest may do that none should: the host has to stand it and end the machine as usual.
 * Depends on smp.h and console.h.
 * None of these returns.
 */
#ifndef TINY_HOSTILE_H
#define TINY_HOSTILE_H

#include "tiny/smp.h"

/* The last CPU triple-faults, the others are halted. The CPUs have been started. */
__attribute__((noreturn)) void hostile_triple_fault_elsewhere(struct cpus *cpus);
/* Every CPU ends the machine at once: even ones reset it, odd ones power it off. */
__attribute__((noreturn)) void hostile_end_everywhere(struct cpus *cpus);
/* Text on COM1 and COM2 without end. */
__attribute__((noreturn)) void hostile_shout(void);
/* Changes, masks and unmasks every vector of the virtio-console without end. */
__attribute__((noreturn)) void hostile_hammer_vectors(void);

#endif
