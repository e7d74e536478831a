// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ktstr.monitor, the userdata, and the method of ktstr.machine that starts one. Its structs come from Lua as bytes,
 * and go there likewise: LuaJIT's FFI knows them (lua/ktstr/kernel/c.lua).
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "coordinator/monitor.h"
#include "lua/machine.h"

static const char monitor_metatable[] = "ktstr.monitor";

enum { READ_MAX = 1 << 20 }; /* bytes, or one sample: the coordinator waits while they are copied */

struct lua_monitor {
	struct monitor *monitor;
	struct lua_machine *machine; /* kept by the environment */
	void *samples; /* on their way to Lua */
};

static struct lua_monitor *monitor_check(lua_State *L)
{
	return luaL_checkudata(L, 1, monitor_metatable);
}

static int monitor_gc(lua_State *L)
{
	struct lua_monitor *lm = monitor_check(L);

	monitor_put(lm->monitor); // the coordinator drops one that is its alone
	lm->monitor = NULL;
	free(lm->samples);
	lm->samples = NULL;
	return 0;
}

static struct lua_monitor *check_there(lua_State *L)
{
	struct lua_monitor *lm = monitor_check(L);

	if (!lm->monitor)
		bind_raise(L, error_create(ERROR_INVALID, "the monitor has been collected"));
	return lm;
}

static int lua_monitor_read(lua_State *L)
{
	struct lua_monitor *lm = check_there(L);
	u64 from = bind_check_offset(L, 2);
	size_t size = monitor_sample_size(lm->monitor);
	size_t room = size > READ_MAX ? size : READ_MAX;

	free(lm->samples); // left over where Lua had no memory for them
	lm->samples = malloc(room);
	if (!lm->samples)
		bind_raise(L, error_no_memory());
	lua_pushlstring(L, lm->samples, monitor_copy(lm->monitor, from, lm->samples, room) * size);
	free(lm->samples);
	lm->samples = NULL;
	return 1;
}

static int lua_monitor_counts(lua_State *L)
{
	struct monitor_counts counts = monitor_counts(check_there(L)->monitor);

	lua_createtable(L, 0, 5);
	lua_pushnumber(L, (double)counts.taken);
	lua_setfield(L, -2, "taken");
	lua_pushnumber(L, (double)counts.dropped);
	lua_setfield(L, -2, "dropped");
	lua_pushnumber(L, (double)counts.early);
	lua_setfield(L, -2, "early");
	lua_pushnumber(L, (double)counts.frozen);
	lua_setfield(L, -2, "frozen");
	lua_pushnumber(L, (double)counts.spent_max_ns / NSEC_PER_SEC);
	lua_setfield(L, -2, "longest");
	return 1;
}

static int lua_monitor_stop(lua_State *L)
{
	struct lua_monitor *lm = check_there(L);
	struct error *err = NULL;

	if (lm->machine->coordinator)
		err = coordinator_stop_monitor(lm->machine->coordinator, lm->monitor);
	// With the machine it has ended, too.
	if (err && error_code(err) == ERROR_ENDED) {
		error_destroy(err);
		err = NULL;
	}
	bind_check(L, err);
	return 0;
}

static struct lua_monitor *push_monitor(lua_State *L, struct lua_machine *machine)
{
	static const luaL_Reg methods[] = {
		{ "read", lua_monitor_read },
		{ "counts", lua_monitor_counts },
		{ "stop", lua_monitor_stop },
		{ NULL, NULL },
	};
	struct lua_monitor *lm = lua_newuserdata(L, sizeof(*lm));

	*lm = (struct lua_monitor){ .machine = machine };
	if (luaL_newmetatable(L, monitor_metatable)) {
		lua_pushcfunction(L, monitor_gc);
		lua_setfield(L, -2, "__gc");
		lua_newtable(L);
		luaL_register(L, NULL, methods);
		lua_setfield(L, -2, "__index");
	}
	lua_setmetatable(L, -2);
	lua_createtable(L, 1, 0);
	lua_pushvalue(L, 1);
	lua_rawseti(L, -2, 1);
	lua_setfenv(L, -2);
	return lm;
}

/* An array of structs from a string, which says nothing about how it is aligned. */
static void *check_array(lua_State *L, int index, size_t each, u32 *count)
{
	size_t size;
	const char *data = luaL_checklstring(L, index, &size);

	luaL_argcheck(L, size % each == 0 && size / each <= MONITOR_CELLS_MAX, index, "an array of structs expected");
	*count = (u32)(size / each);

	void *copy = lua_newuserdata(L, size + 1);

	memcpy(copy, data, size);
	return copy;
}

static int lua_machine_monitor(lua_State *L)
{
	struct lua_machine *machine = machine_check_started(L);
	u32 heads, cell_count, step_count;
	u64 interval = machine_seconds_to_ns(luaL_checknumber(L, 5));
	u32 capacity = bind_check_u32(L, 6);

	lua_settop(L, 6);

	const struct monitor_program *program = check_array(L, 2, sizeof(*program), &heads);
	const struct monitor_cell *cells = check_array(L, 3, sizeof(*cells), &cell_count);
	const struct monitor_step *steps = check_array(L, 4, sizeof(*steps), &step_count);

	luaL_argcheck(L, heads == 1, 2, "one struct monitor_program expected");

	struct lua_monitor *lm = push_monitor(L, machine);

	bind_check(L, monitor_create(&machine->view, program, cells, cell_count, steps, step_count, capacity,
				     &lm->monitor));
	bind_check(L, coordinator_start_monitor(machine->coordinator, lm->monitor, interval));
	return 1;
}

const luaL_Reg machine_monitor_methods[] = {
	{ "monitor", lua_machine_monitor },
	{ NULL, NULL },
};
