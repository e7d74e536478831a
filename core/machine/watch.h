/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Watches: places in the guest's memory, and what happened when the guest wrote there.
 * Depends on machine.h. By debug registers where they work, by pages that the guest cannot write else.
 * A vCPU that has made a write which is to be recorded stands still, right behind it, until machine_take_fires().
 */
#ifndef MACHINE_WATCH_H
#define MACHINE_WATCH_H

#include "base/error.h"
#include "base/types.h"
#include "machine/machine.h"

enum {
	WATCHES_MAX = 64,
	WATCH_REGISTERS = 3, /* debug registers 1 to 3; 0 is kept */
	WATCH_RATE = 1000, /* see watch_config.rate */
	WATCH_FIRES_MAX = WATCHES_MAX, /* of one vCPU, by one instruction */
	WATCH_NAME_MAX = 64,
	WATCH_BESIDE_MAX = 10000, /* writes beside what is watched: the page is a hot one */
	WATCH_RETURNS_MAX = 64,
};

enum watch_backend {
	WATCH_BY_ANY, /* a debug register where there is one, else the page */
	WATCH_BY_REGISTER,
	WATCH_BY_PAGE,
	WATCH_BY_INT3, /* of code alone: where debug registers run out */
};

/* What a fire tells of. */
enum watch_event_kind {
	WATCH_WRITE,
	WATCH_CALL,
	WATCH_RETURN,
};

/* "any", "register", "page", "int3" */
const char *watch_backend_name(enum watch_backend backend);

/* Of the value that was written with `value`; CHANGED with the one before. */
enum watch_op {
	WATCH_ALWAYS,
	WATCH_EQUAL,
	WATCH_NOT_EQUAL,
	WATCH_LESS,
	WATCH_AT_MOST,
	WATCH_GREATER,
	WATCH_AT_LEAST,
	WATCH_CHANGED,
	WATCH_BITS, /* has one of these bits */
};

struct watch_config {
	u64 address; /* guest-virtual, in every vCPU's page tables; aligned to size */
	u64 gpa; /* of the same */
	u32 size; /* 1, 2, 4, 8 */
	bool is_signed; /* for comparisons */
	bool is_code; /* it fires in front of the instruction at address; size, op and value say nothing */
	bool returns; /* and when the function that begins there returns */
	bool counts_only; /* no write is recorded, no vCPU stops for it */
	enum watch_backend backend;
	enum watch_op op;
	u64 value;
	u32 rate; /* so many of its writes are recorded in a second of the machine's; 0: WATCH_RATE */
	char name[WATCH_NAME_MAX]; /* as people know it, for warnings */
	u64 hold_ns; /* its fires come with it: so long may the machine stay frozen for each; 0: not at all */
};

/* One write, one call or return. */
struct watch_fire {
	enum watch_event_kind kind;
	bool wants_return; /* of a call */
	u32 watch; /* its id */
	u32 cpu;
	u64 order; /* among all of the machine's */
	u64 number; /* of the watch's, from 1: it is the how-manieth for which the condition held */
	u64 rip; /* of the next instruction; of the same one where that repeats itself */
	u64 before, after; /* after: of a return rax, what it returns */
	u32 size;
	bool raced; /* another vCPU wrote as well: `after`, and the other's `before`, may be either one's */
	u64 hold_ns; /* as the watch has it */
	u64 elapsed_ns; /* since the start, freezes taken out; the caller's to fill in */
};

struct watch_counts {
	u64 hits; /* writes for which the condition held */
	u64 dropped; /* of these, were to be recorded and came too fast */
	u64 raced;
	enum watch_backend backend; /* the one it has */
};

/* --- while every vCPU is parked --- */

/*
 * From the thaw on. ERROR_INVALID: size, alignment, an address that is no memory; ERROR_UNSUPPORTED: no more of
 * them can be had, or none of that kind.
 */
MUST_CHECK struct error *machine_add_watch(struct machine *m, const struct watch_config *config, u32 *id);
/* Before the vCPUs go on: what the host has written is not the guest's doing. */
void machine_refresh_watches(struct machine *m);
/* Harmless when there is no such watch. What it has fired and is not taken is gone. */
MUST_CHECK struct error *machine_remove_watch(struct machine *m, u32 id);
/* The machine was taken back: what stands in its memory now is what was there before; nobody waits. */
MUST_CHECK struct error *machine_rewind_watches(struct machine *m);

/* All that is to be recorded, by CPU; who waited goes on when thawed. At most max (none is lost: call it again). */
u32 machine_take_fires(struct machine *m, struct watch_fire *ret, u32 max);

/*
 * A vCPU whose next instruction writes to a protected page in a way that KVM cannot emulate: it is let through, while
 * the others stay parked. False: there is none. After begin wait for the rendezvous to be complete again, and end.
 */
bool machine_find_blocked(struct machine *m, u32 *cpu);
MUST_CHECK struct error *machine_begin_unblock(struct machine *m, u32 cpu);
MUST_CHECK struct error *machine_end_unblock(struct machine *m, u32 cpu);

/* A vCPU in front of an instruction that is watched: it is let past with begin and end, as a blocked one. */
bool machine_find_at_breakpoint(struct machine *m, u32 *cpu);
/*
 * Of a call that is there to be recorded: catches its return, with a debug register of its own until then. False:
 * there is none. Both take effect with machine_settle_returns(), which gives back those of calls that have returned.
 */
bool machine_catch_return(struct machine *m, const struct watch_fire *call);
MUST_CHECK struct error *machine_settle_returns(struct machine *m);

/*
 * The INT3s of watches stand in the guest's code only while it runs: plant before the thaw, lift as soon as all are
 * parked, and when the machine has ended.
 */
void machine_plant_breakpoints(struct machine *m);
void machine_lift_breakpoints(struct machine *m);

/* --- any thread, any time --- */

/*
 * For who reads code while the guest runs: what the INT3s there hide, in size bytes that were read from `from`.
 * Between begin and end none comes or goes; begin is false, and there is no end, where there never was one until then.
 */
bool machine_begin_unhide(struct machine *m);
void machine_end_unhide(struct machine *m, const u8 *from, u8 *bytes, size_t size);

/* All zero where there is no such watch. */
struct watch_counts machine_watch_counts(struct machine *m, u32 id);
/* Whether a vCPU waits for machine_take_fires(), or is blocked. */
bool machine_has_fires(struct machine *m);
/* Nobody can record what has been fired: it counts as dropped, and who waits goes on. */
void machine_drop_fires(struct machine *m);
/* So long did recording take: time that does not count for the rate. */
void machine_note_recording(struct machine *m, u64 ns);
/* One of its hits that was taken could not be kept. */
void machine_note_dropped(struct machine *m, u32 id);
/* One whose page has turned out to be hot, once for a machine; and for how long the machine has run with it. */
bool machine_find_hot_watch(struct machine *m, struct watch_config *ret, u64 *ns);
/* A watch that has begun to drop writes, each once. False: there is none. */
bool machine_find_fast_watch(struct machine *m, struct watch_config *ret);
/* wake(ctx) is called, on a vCPU's thread, when there is something to take or to say. Before the start. */
void machine_on_watch(struct machine *m, void (*wake)(void *ctx), void *ctx);

#endif
