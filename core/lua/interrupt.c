// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/interrupt.h"

#include <signal.h>

#include "lua/bind.h"

static int core_interrupted(lua_State *L)
{
	int sig = interrupt_signal();

	if (!sig)
		return 0;
	lua_pushinteger(L, sig);
	return 1;
}

static int core_patient(lua_State *L)
{
	interrupt_set_patient(lua_toboolean(L, 1));
	return 0;
}

/*
 * In C, since between the end of a function and the next instruction of Lua a SIGINT could still be raised in
 * whoever called it.
 */
static int core_interruptible(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TFUNCTION);
	interrupt_set_patient(false);

	// One that came before is meant for the function, too.
	bool ran = !interrupt_signal();
	bool fine = ran && !lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);

	interrupt_set_patient(true);

	bool interrupted = interrupt_take_back();

	if (interrupt_signal())
		bind_raise(L, interrupt_error());
	if (!fine && interrupted) {
		lua_settop(L, 0);
		bind_push_error(L, error_create(ERROR_INTERRUPTED, "interrupted"));
	}
	lua_pushboolean(L, fine);
	lua_insert(L, 1);
	return lua_gettop(L);
}

void bind_interrupt(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "interrupted", core_interrupted },
		{ "patient", core_patient },
		{ "interruptible", core_interruptible },
		{ NULL, NULL },
	};

	luaL_register(L, NULL, functions);
}
