// SPDX-License-Identifier: GPL-2.0-or-later
#include "lua/loader.h"

#include <lauxlib.h>
#include <string.h>

#include "base/types.h"

/* Pushes package.NAME(...) of the arguments on top of the stack, or nil. */
static void call_package(lua_State *L, const char *function, int arguments)
{
	lua_getglobal(L, "package");
	lua_getfield(L, -1, function);
	lua_remove(L, -2);
	lua_insert(L, -arguments - 1);
	if (lua_pcall(L, arguments, 1, 0)) {
		lua_pop(L, 1);
		lua_pushnil(L);
	}
}

/* Where posix.so is: upvalue 1 once it is known. */
static const char *find_posix(lua_State *L)
{
	if (!lua_isstring(L, lua_upvalueindex(1))) {
		lua_pushliteral(L, "posix");
		lua_getglobal(L, "package");
		lua_getfield(L, -1, "cpath");
		lua_remove(L, -2);
		call_package(L, "searchpath", 2);
		lua_replace(L, lua_upvalueindex(1));
	}
	return lua_tostring(L, lua_upvalueindex(1));
}

/* What is not found here is looked for as ever. */
static int load_posix(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	if (strncmp(name, "posix.", strlen("posix.")) != 0 || !find_posix(L))
		return 0;
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_pushfstring(L, "luaopen_%s", luaL_gsub(L, name, ".", "_"));
	lua_remove(L, -2);
	call_package(L, "loadlib", 2);
	return lua_isfunction(L, -1) ? 1 : 0;
}

/* As package.loaders[place]; those behind it move. */
static void insert(lua_State *L, int place)
{
	int loaders = lua_gettop(L) - 1;

	for (int i = (int)lua_objlen(L, loaders); i >= place; i--) {
		lua_rawgeti(L, loaders, i);
		lua_rawseti(L, loaders, i + 1);
	}
	lua_rawseti(L, loaders, place);
}

void loader_install(lua_State *L)
{
	lua_getglobal(L, "package");
	lua_getfield(L, -1, "loaders");
	lua_pushnil(L);
	lua_pushcclosure(L, load_posix, 1);
	insert(L, 2); // the first looks for what is there already
	lua_pop(L, 2);
}
