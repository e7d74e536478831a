/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the bindings share: opening ktstr.core, raising errors, reading option tables.
 * Depends on all of core/. Binding functions check arguments and make one call; policy is Lua's.
 * Nothing here longjmps over a live cleanup attribute: an error is raised after the scope has ended.
 */
#ifndef LUA_BIND_H
#define LUA_BIND_H

#include <lauxlib.h>
#include <lua.h>

#include "base/error.h"
#include "base/types.h"

struct bind_paths {
	const char *guest; /* the directory that holds the guest programs */
};

/* Makes require "ktstr.core" work. */
void bind_preload(lua_State *L, const struct bind_paths *paths);

/* Raises err (never NULL) as { code=, message=, hint= }, and destroys it. Does not return. */
int bind_raise(lua_State *L, struct error *err) __attribute__((noreturn));

/* Pushes that table, and destroys err (never NULL). */
void bind_push_error(lua_State *L, struct error *err);

/* Raises when err is not NULL. */
void bind_check(lua_State *L, struct error *err);

/* Each adds its part to the module table on top of the stack. */
void bind_wire(lua_State *L);
void bind_cpio(lua_State *L);
void bind_kernel(lua_State *L);
void bind_doctor(lua_State *L);
void bind_image(lua_State *L);
void bind_machine(lua_State *L);
void bind_work(lua_State *L);
void bind_interrupt(lua_State *L);
void bind_editor(lua_State *L);

/* The archive behind a ktstr.cpio userdata at index, finished; raises when it is none. */
struct cpio;
struct cpio *bind_check_cpio(lua_State *L, int index);

/* Numbers among a function's arguments; raise when they are not in range (a conversion would be undefined). */
u32 bind_check_u32(lua_State *L, int index);
u64 bind_check_offset(lua_State *L, int index); /* 0 to 2^53 */

/* Fields of the option table at index t; a missing one raises "invalid" unless there is a default. */
bool bind_field_bool(lua_State *L, int t, const char *name, bool fallback);
double bind_field_number(lua_State *L, int t, const char *name, double lowest, double highest);
/* The string lives as long as the table holds it. NULL when missing and not required. */
const char *bind_field_string(lua_State *L, int t, const char *name, bool required);

#endif
