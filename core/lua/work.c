// SPDX-License-Identifier: GPL-2.0-or-later
#include "lua/bind.h"
#include "work/table.h"

static void push_param(lua_State *L, const struct work_param_info *p)
{
	lua_createtable(L, 0, 5);
	lua_pushstring(L, p->name);
	lua_setfield(L, -2, "name");
	lua_pushstring(L, p->unit);
	lua_setfield(L, -2, "unit");
	lua_pushnumber(L, (double)p->initial);
	lua_setfield(L, -2, "default");
	lua_pushnumber(L, (double)p->min);
	lua_setfield(L, -2, "min");
	lua_pushnumber(L, (double)p->max);
	lua_setfield(L, -2, "max");
}

static void push_type(lua_State *L, const struct work_type_info *info)
{
	u32 params = work_param_count(info);

	lua_createtable(L, 0, 4);
	lua_pushstring(L, info->name);
	lua_setfield(L, -2, "name");
	lua_pushnumber(L, info->size_base);
	lua_setfield(L, -2, "group");
	if (info->size_param >= 0) {
		lua_pushstring(L, info->params[info->size_param].name);
		lua_setfield(L, -2, "group_param");
	}
	lua_createtable(L, (int)params, 0);
	for (u32 i = 0; i < params; i++) {
		push_param(L, &info->params[i]);
		lua_rawseti(L, -2, (int)i + 1);
	}
	lua_setfield(L, -2, "params");
}

static int core_work_types(lua_State *L)
{
	lua_createtable(L, WORK_TYPE_COUNT, 0);
	for (int i = 0; i < WORK_TYPE_COUNT; i++) {
		push_type(L, &work_type_infos[i]);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

void bind_work(lua_State *L)
{
	lua_pushcfunction(L, core_work_types);
	lua_setfield(L, -2, "work_types");
}
