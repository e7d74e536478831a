/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Host time: CLOCK_MONOTONIC in nanoseconds. Depends on libc. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <time.h>

#include "base/types.h"

#define NSEC_PER_SEC 1000000000ULL
#define NSEC_PER_MSEC 1000000ULL

static inline u64 clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

/* The time that lies timeout_ns ahead; UINT64_MAX, which is never, where that is beyond all numbers. */
static inline u64 clock_deadline_ns(u64 timeout_ns)
{
	u64 now = clock_now_ns();

	return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

#endif
