/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that asks its host for captures: one after another, many at once, and wrongly.
 * Depends on console.h and report.h.
 * What it sent and what came back is counted at TINY_CAPTURES_GPA, and said on STDOUT.
 */
#ifndef TINY_CAPTURE_H
#define TINY_CAPTURE_H

#include "base/types.h"

enum { CAPTURE_BURST_MAX = 1024 };

/*
 * Requests with ids 1 to count and tags t0 to t<count - 1>; each is sent when the one before it was answered.
 * Says "captures: sent N done N busy N timeout N failed N strange N". A strange reply has an id that waits for
 * none, a status that is none, or a wrong size; false when there was one.
 */
bool capture_one_by_one(u32 count);
/* The same, all sent before the first reply is looked at; at most CAPTURE_BURST_MAX. */
bool capture_burst(u32 count);
/*
 * Requests that are not as they should be, one line each: what is wrong, the status of each reply that came for
 * it, and its reason. A good request behind it says when to stop waiting: false when that has no reply of its own.
 */
bool capture_bad(void);

#endif
