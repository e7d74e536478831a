// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The methods of ktstr.machine that take captures on a clock, and before a failure.
 */
#include <string.h>

#include "lua/machine.h"

/* A member of the table at the top of the stack, which is left there. */
static u64 check_seconds(lua_State *L, const char *name)
{
	lua_getfield(L, -1, name);

	double seconds = luaL_checknumber(L, -1);

	luaL_argcheck(L, seconds >= 0, 2, "times from 0 on expected");
	lua_pop(L, 1);
	return machine_seconds_to_ns(seconds);
}

static void check_moment(lua_State *L, struct periodic_moment *ret)
{
	size_t length;

	luaL_checktype(L, -1, LUA_TTABLE);
	ret->due_ns = check_seconds(L, "moment");
	lua_getfield(L, -1, "tag");

	const char *tag = luaL_checklstring(L, -1, &length);

	luaL_argcheck(L, length && length < sizeof(ret->tag), 2, "tags expected");
	memcpy(ret->tag, tag, length);
	lua_pop(L, 1);
}

/* The plan of lua/ktstr/periodic.lua; whether the guest says when its workload starts. */
static int lua_machine_start_periodic(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	struct periodic_plan plan = { 0 };

	luaL_checktype(L, 2, LUA_TTABLE);
	plan.count = (u32)lua_objlen(L, 2);
	luaL_argcheck(L, plan.count >= 1 && plan.count <= PERIODIC_MAX, 2, "1 to 64 captures expected");
	for (u32 i = 0; i < plan.count; i++) {
		lua_rawgeti(L, 2, (int)i + 1);
		check_moment(L, &plan.at[i]);
		if (i + 1 == plan.count)
			plan.end_ns = check_seconds(L, "latest");
		lua_pop(L, 1);
	}
	bind_check(L, coordinator_start_periodic(lm->coordinator, &plan, lua_toboolean(L, 3)));
	return 0;
}

static int lua_machine_periodic(lua_State *L)
{
	static const char *const names[] = {
		[PERIODIC_LOOK] = "look",
		[PERIODIC_BEGIN] = "start",
		[PERIODIC_PAUSE] = "pause",
		[PERIODIC_RESUME] = "resume",
		[PERIODIC_FINISH] = "finish",
		NULL,
	};
	struct lua_machine *lm = machine_check_started(L);
	enum periodic_control control = (enum periodic_control)luaL_checkoption(L, 2, "look", names);
	struct periodic_counts counts = { 0 };

	bind_check(L, coordinator_control_periodic(lm->coordinator, control, &counts));
	lua_pushstring(L, periodic_state_name(counts.state));
	lua_pushnumber(L, counts.taken);
	lua_pushnumber(L, counts.missed);
	return 3;
}

static int lua_machine_capture_early(lua_State *L)
{
	bool taken = false;

	bind_check(L, coordinator_capture_early(machine_check_started(L)->coordinator, &taken));
	lua_pushboolean(L, taken);
	return 1;
}

const luaL_Reg machine_periodic_methods[] = {
	{ "capture_early", lua_machine_capture_early },
	{ "start_periodic", lua_machine_start_periodic },
	{ "periodic", lua_machine_periodic },
	{ NULL, NULL },
};
