/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where `require` finds the library's own modules, and those of luaposix, without a search.
 * Depends on LuaJIT.
 * A package.path of a dozen places means a dozen failing opens for each module, which is most of a start's time.
 */
#ifndef LUA_LOADER_H
#define LUA_LOADER_H

#include <lua.h>

/* ktstr and ktstr.* come from dir and nowhere else; posix.* out of posix.so, where that has them. */
void loader_install(lua_State *L, const char *dir);

#endif
