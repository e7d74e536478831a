// SPDX-License-Identifier: GPL-2.0-or-later
#include "lua/bind.h"

static const char error_metatable[] = "ktstr.error";

void bind_push_error(lua_State *L, struct error *err)
{
	lua_createtable(L, 0, 3);
	lua_pushstring(L, error_code_name(error_code(err)));
	lua_setfield(L, -2, "code");
	lua_pushstring(L, error_message(err));
	lua_setfield(L, -2, "message");
	if (error_hint(err)) {
		lua_pushstring(L, error_hint(err));
		lua_setfield(L, -2, "hint");
	}
	error_destroy(err);
	luaL_getmetatable(L, error_metatable);
	lua_setmetatable(L, -2);
}

int bind_raise(lua_State *L, struct error *err)
{
	bind_push_error(L, err);
	lua_error(L);
	__builtin_unreachable();
}

void bind_check(lua_State *L, struct error *err)
{
	if (err)
		bind_raise(L, err);
}

bool bind_field_bool(lua_State *L, int t, const char *name, bool fallback)
{
	lua_getfield(L, t, name);

	bool value = lua_isnil(L, -1) ? fallback : lua_toboolean(L, -1);

	lua_pop(L, 1);
	return value;
}

double bind_field_number(lua_State *L, int t, const char *name, double lowest, double highest)
{
	lua_getfield(L, t, name);

	double value = lua_tonumber(L, -1);

	if (!lua_isnumber(L, -1) || !(value >= lowest && value <= highest))
		bind_raise(L, error_create(ERROR_INVALID, "%s must be a number from %.0f to %.0f, not %s", name,
					   lowest, highest,
					   lua_isnumber(L, -1) ? lua_tostring(L, -1) : luaL_typename(L, -1)));
	lua_pop(L, 1);
	return value;
}

const char *bind_field_string(lua_State *L, int t, const char *name, bool required)
{
	lua_getfield(L, t, name);

	// A number's string would be the stack's alone, and gone with the pop below.
	const char *value = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;

	if (!value && (required || !lua_isnil(L, -1)))
		bind_raise(L, error_create(ERROR_INVALID, "%s must be a string, not %s", name,
					   luaL_typename(L, -1)));
	lua_pop(L, 1);
	return value;
}

u32 bind_check_u32(lua_State *L, int index)
{
	double v = luaL_checknumber(L, index);

	luaL_argcheck(L, v >= 0 && v <= UINT32_MAX, index, "number from 0 to 4294967295 expected");
	return (u32)v;
}

u64 bind_check_offset(lua_State *L, int index)
{
	double v = luaL_checknumber(L, index);

	luaL_argcheck(L, v >= 0 && v <= 0x1p53, index, "number from 0 to 2^53 expected");
	return (u64)v;
}

static void add_paths(lua_State *L, const struct bind_paths *paths)
{
	lua_createtable(L, 0, 1);
	lua_pushstring(L, paths->guest);
	lua_setfield(L, -2, "guest");
	lua_setfield(L, -2, "paths");
}

static int open_core(lua_State *L)
{
	const struct bind_paths *paths = lua_touserdata(L, lua_upvalueindex(1));

	lua_newtable(L);
	lua_pushliteral(L, KTSTR_VERSION);
	lua_setfield(L, -2, "version");
	add_paths(L, paths);
	// ktstr.errors gives it __tostring; raised from here and from Lua, errors are of one type.
	luaL_newmetatable(L, error_metatable);
	lua_setfield(L, -2, "error_metatable");
	bind_wire(L);
	bind_cpio(L);
	bind_kernel(L);
	bind_doctor(L);
	bind_image(L);
	bind_machine(L);
	bind_work(L);
	bind_interrupt(L);
	bind_editor(L);
	return 1;
}

void bind_preload(lua_State *L, const struct bind_paths *paths)
{
	lua_getglobal(L, "package");
	lua_getfield(L, -1, "preload");
	lua_pushlightuserdata(L, (void *)paths);
	lua_pushcclosure(L, open_core, 1);
	lua_setfield(L, -2, "ktstr.core");
	lua_pop(L, 2);
}
