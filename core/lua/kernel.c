// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/kernel.h"
#include "image/needed.h"
#include "lua/bind.h"

static int core_elf_needed(lua_State *L)
{
	struct needed n;

	bind_check(L, needed_find(luaL_checkstring(L, 1), &n));
	lua_createtable(L, (int)n.count, 0);
	for (size_t i = 0; i < n.count; i++) {
		lua_pushstring(L, n.paths[i]);
		lua_rawseti(L, -2, (int)i + 1);
	}
	needed_deinit(&n);
	return 1;
}

static int core_kernel_info(lua_State *L)
{
	struct kernel_image *image;

	bind_check(L, kernel_image_open(luaL_checkstring(L, 1), &image));

	struct kernel_info info = *kernel_image_info(image);

	kernel_image_close(image);
	lua_createtable(L, 0, 4);
	lua_pushstring(L, kernel_format_name(info.format));
	lua_setfield(L, -2, "format");
	lua_pushstring(L, info.release);
	lua_setfield(L, -2, "release");
	lua_pushboolean(L, info.relocatable);
	lua_setfield(L, -2, "relocatable");
	lua_pushstring(L, kernel_compression_name(info.compression));
	lua_setfield(L, -2, "compression");
	return 1;
}

static int core_kernel_extract(lua_State *L)
{
	bind_check(L, kernel_image_extract(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
	return 0;
}

void bind_kernel(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "elf_needed", core_elf_needed },
		{ "kernel_info", core_kernel_info },
		{ "kernel_extract", core_kernel_extract },
		{ NULL, NULL },
	};

	luaL_register(L, NULL, functions);
}
