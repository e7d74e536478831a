/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What PID 1 makes of a bare initramfs: file systems, names, the network's loopback, the port.
 * Depends on agent/agent.h.
 * In two steps, so that the host hears of the agent as early as there is a port.
 */
#ifndef AGENT_SETUP_H
#define AGENT_SETUP_H

#include "agent/agent.h"

/* /dev, /proc and /sys, the standard streams, COM2. Returns COM2's descriptor, or -1. */
int setup_first(void);

/* Port 1, non-blocking; waits until it is there. -1 after 10 seconds. */
int setup_open_port(void);

/* All the rest. What a kernel lacks is left out. */
void setup_rest(struct agent *agent);

/* Ends the machine: powers it off, or resets it where there is nothing to power it off with. */
_Noreturn void setup_power_off(void);

#endif
