/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Captures: what was recorded of a machine at one moment, by name, and where they are kept.
 * Depends on freeze/state.h and capture/record.h. A capture in the store does not change; any thread may use the store.
 * A name used twice replaces the capture of that name; a full store refuses, and loses nothing.
 */
#ifndef CAPTURE_CAPTURE_H
#define CAPTURE_CAPTURE_H

#include <linux/kvm.h>
#include <pthread.h>

#include "base/error.h"
#include "base/types.h"
#include "capture/record.h"
#include "freeze/state.h"

/* Most that a run keeps: captures, and MiB of their records. */
enum { CAPTURES_MAX = 1024,
       CAPTURES_MIB_MAX = 2048,
       CAPTURE_REASON_MAX = 240 };

#define CAPTURE_NO_WORKLOAD UINT64_MAX

struct capture_cpu {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
};

struct capture {
	struct capture *next; /* the store's */
	char tag[WIRE_TAG_SIZE + 1];
	enum freeze_source source;
	u64 elapsed_ns; /* since the start, freezes taken out */
	u64 clock_ns; /* the guest's kvmclock */
	/* Since the workload's start, freezes and its pauses taken out; or CAPTURE_NO_WORKLOAD: none is going on. */
	u64 workload_ns;
	u32 epoch; /* another one once the machine was taken back: nothing is to be compared across */
	char phase[WIRE_TAG_SIZE + 1]; /* of the script's scenario; "" */
	u32 times; /* this name was used, this one included */
	u32 cpus;
	u64 number; /* of the store's, from 1 on: this one's alone */
	u64 frozen_ns; /* that the machine stood still for it */
	struct record *record; /* of the kernel's memory, held; NULL: there is none */
	bool missed; /* a placeholder: it could not be taken, and has no data */
	char reason[CAPTURE_REASON_MAX]; /* why not, or why there is no record; "" */
	struct capture_cpu cpu[];
};

/* Zeros but for what is given; tag is cut to WIRE_TAG_SIZE. */
MUST_CHECK struct error *capture_create(const char *tag, enum freeze_source source, u32 cpus,
					struct capture **ret);

/* NULL is allowed. */
void capture_destroy(struct capture *c);

struct capture_store {
	pthread_mutex_t lock;
	struct capture *first, **last;
	u32 count;
	u64 bytes; /* of their records */
	u64 taken; /* number of the last one */
};

void capture_store_init(struct capture_store *store);
void capture_store_deinit(struct capture_store *store);
/* Frees all that is in it. */
void capture_store_clear(struct capture_store *store);

/* Takes the capture, on success. *times: how often its name was used. ERROR_UNSUPPORTED: it is full. */
MUST_CHECK struct error *capture_store_put(struct capture_store *store, struct capture *c, u32 *times);
/* All of one moment, to an empty store; copied in the order in which they were taken. Only from may be in use. */
MUST_CHECK struct error *capture_store_copy(struct capture_store *from, struct capture_store *to);
void capture_store_move(struct capture_store *from, struct capture_store *to);

#endif
