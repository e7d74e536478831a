/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ktstr.machine, the userdata: what its methods' files share.
 * Depends on coordinator and lua/bind.h.
 */
#ifndef LUA_MACHINE_H
#define LUA_MACHINE_H

#include "base/buf.h"
#include "coordinator/coordinator.h"
#include "kernel/view.h"
#include "lua/bind.h"

struct lua_machine {
	struct machine *machine; /* NULL once the result is there */
	struct coordinator *coordinator;
	bool started, ended;
	struct view view; /* of its kernel; memory NULL before there is a machine, and after */
	struct view_cover cover; /* the INT3s of watches are not to be seen */
	struct run_result result;
	struct mail *mail; /* on its way to Lua */
	struct buf console, last_words; /* what the serial ports said, kept after the machine is gone */
	u64 console_start; /* offset of its first byte */
	struct capture_store captures; /* what was recorded, kept likewise; while it runs, on its way to Lua */
	int touched_directory; /* where the pages that are touched first are to be noted; -1: nowhere */
	struct freeze_counts counts[FREEZE_SOURCES]; /* likewise */
};

/* The userdata at index 1, whose machine has been started and has not ended; raises "ended", "invalid". */
struct lua_machine *machine_check_started(lua_State *L);
/* The userdata at index 1. */
struct lua_machine *machine_check(lua_State *L);

/* Seconds as nanoseconds; not a number is 0, too many are UINT64_MAX. */
u64 machine_seconds_to_ns(double seconds);

/* Whether a function that frozen() runs is to be ended, because the freeze limit has come. For a Lua hook. */
bool machine_visit_is_over(lua_State *L);

/* machine_view.c. The coordinator is there; until release(), the machine is looked at through it. */
MUST_CHECK struct error *machine_open_view(struct lua_machine *lm);
/*
 * Brings the view up to what the coordinator says: a limit may have thawed the machine, or its end. Whatever asks the
 * machine does so first, by machine_check_started().
 */
void machine_update_view(struct lua_machine *lm);
extern const luaL_Reg machine_view_methods[];

/* machine_monitor.c */
extern const luaL_Reg machine_monitor_methods[];

/* machine_watch.c */
extern const luaL_Reg machine_watch_methods[];

/* machine_periodic.c */
extern const luaL_Reg machine_periodic_methods[];

/* machine_ops.c */
extern const luaL_Reg machine_ops_methods[];

/* machine_dump.c */
extern const luaL_Reg machine_dump_methods[];

/* machine_freeze.c: its methods, ending with { NULL, NULL }. */
extern const luaL_Reg machine_freeze_methods[];
/* Keeps captures and counts before the machine goes. */
void machine_keep_captures(struct lua_machine *lm);

#endif
