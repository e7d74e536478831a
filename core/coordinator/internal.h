/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of struct coordinator, for its two sides: coordinator.c is the thread, client.c is main.
 * Depends on coordinator.h. Each field says whose it is; what both use is atomic or has its own lock.
 */
#ifndef COORDINATOR_INTERNAL_H
#define COORDINATOR_INTERNAL_H

#include <pthread.h>

#include "base/loop.h"
#include "coordinator/coordinator.h"
#include "coordinator/outbox.h"

/* What main asks of the coordinator's thread. */
enum request {
	REQUEST_SEND = 1 << 0, /* there is something in the outbox */
	REQUEST_RESUME = 1 << 1, /* there is room in the mailbox again */
	REQUEST_KILL = 1 << 2,
};

struct queue_source {
	struct coordinator *coordinator;
	u32 queue;
	struct loop_fd fd;
};

struct coordinator {
	struct machine *machine;
	u64 timeout_ns;

	/* The thread's own. */
	struct loop loop;
	struct queue_source queues[CONSOLE_QUEUES];
	struct loop_fd ended_source, request_source;
	struct loop_timer deadline;
	struct frame_reader reader;
	u8 *reader_buffer;
	bool draining; /* the vCPUs have stopped; what is left in the rings is still read */

	/* Shared. */
	struct mailbox mailbox;
	struct outbox outbox;
	int request_fd;
	u32 requests; /* enum request; atomic */
	bool starved; /* atomic: frames wait for room in the mailbox */
	bool over; /* atomic: nobody is there to send to any more */
	bool wake_on_console, console_is_new; /* atomic */

	/* The thread writes them; main reads them after joining it. */
	bool reported;
	s32 exit_code;

	pthread_t thread;
	bool thread_created;
	bool ended; /* main has seen the end; result is valid */
	struct run_result result;
};

/* Makes the thread look at a request. Any thread. */
void coordinator_post(struct coordinator *c, u32 request);

#endif
