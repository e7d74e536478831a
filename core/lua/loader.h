/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where `require` finds the modules of luaposix, without a search.
 * Depends on LuaJIT.
 * A package.path of a dozen places means a dozen failing opens for each module, which is much of a start's time. The
 * library's own modules are in the program, where LuaJIT looks first.
 */
#ifndef LUA_LOADER_H
#define LUA_LOADER_H

#include <lua.h>

/* posix.* come out of posix.so, where that has them; the rest is looked for as ever. */
void loader_install(lua_State *L);

#endif
