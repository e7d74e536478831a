// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/stat.h>

#include "image/cpio.h"
#include "lua/bind.h"

static const char cpio_metatable[] = "ktstr.cpio";

static struct cpio *check(lua_State *L)
{
	return luaL_checkudata(L, 1, cpio_metatable);
}

static u32 check_mode(lua_State *L, int index)
{
	lua_Integer mode = luaL_checkinteger(L, index);

	luaL_argcheck(L, mode >= 0 && mode <= 07777, index, "permission bits expected");
	return (u32)mode;
}

static int cpio_new(lua_State *L)
{
	cpio_init(lua_newuserdata(L, sizeof(struct cpio)));
	luaL_getmetatable(L, cpio_metatable);
	lua_setmetatable(L, -2);
	return 1;
}

static int cpio_gc(lua_State *L)
{
	cpio_deinit(check(L));
	return 0;
}

static int cpio_file(lua_State *L)
{
	size_t size;
	const char *data = luaL_checklstring(L, 4, &size);

	bind_check(L, cpio_add_file(check(L), luaL_checkstring(L, 2), check_mode(L, 3), data, size));
	return 0;
}

static int cpio_host_file(lua_State *L)
{
	u32 mode = lua_isnil(L, 3) ? 0 : check_mode(L, 3);

	bind_check(L, cpio_add_host_file(check(L), luaL_checkstring(L, 2), lua_isnil(L, 3) ? NULL : &mode,
					 luaL_checkstring(L, 4)));
	return 0;
}

static int cpio_dir(lua_State *L)
{
	bind_check(L, cpio_add_dir(check(L), luaL_checkstring(L, 2), check_mode(L, 3)));
	return 0;
}

static int cpio_symlink(lua_State *L)
{
	bind_check(L, cpio_add_symlink(check(L), luaL_checkstring(L, 2), luaL_checkstring(L, 3)));
	return 0;
}

static int cpio_char_device(lua_State *L)
{
	bind_check(L, cpio_add_char_device(check(L), luaL_checkstring(L, 2), check_mode(L, 3),
					   (u32)luaL_checkinteger(L, 4), (u32)luaL_checkinteger(L, 5)));
	return 0;
}

static int cpio_size(lua_State *L)
{
	lua_pushnumber(L, (double)check(L)->archive.size);
	return 1;
}

struct cpio *bind_check_cpio(lua_State *L, int index)
{
	struct cpio *c = luaL_checkudata(L, index, cpio_metatable);

	if (!c->finished)
		bind_check(L, cpio_finish(c));
	return c;
}

void bind_cpio(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "file", cpio_file },
		{ "host_file", cpio_host_file },
		{ "dir", cpio_dir },
		{ "symlink", cpio_symlink },
		{ "char_device", cpio_char_device },
		{ "size", cpio_size },
		{ NULL, NULL },
	};

	luaL_newmetatable(L, cpio_metatable);
	lua_pushcfunction(L, cpio_gc);
	lua_setfield(L, -2, "__gc");
	lua_newtable(L);
	luaL_register(L, NULL, methods);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	lua_pushcfunction(L, cpio_new);
	lua_setfield(L, -2, "cpio");
}
