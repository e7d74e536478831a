// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The methods of ktstr.machine for operations on its kernel's memory. A batch comes from Lua as bytes, and what came
 * of it goes there likewise: LuaJIT's FFI knows the structs (lua/ktstr/kernel/c.lua).
 */
#include <string.h>

#include "coordinator/kernel_op.h"
#include "kernel/ops.h"
#include "lua/machine.h"

/* An array of structs from a string, which says nothing about how it is aligned. */
static const void *check_array(lua_State *L, int index, size_t each, u32 *count)
{
	size_t size;
	const char *data = luaL_checklstring(L, index, &size);

	luaL_argcheck(L, size % each == 0 && size / each <= UINT32_MAX, index, "an array of structs expected");
	*count = (u32)(size / each);

	void *copy = lua_newuserdata(L, size + 1);

	memcpy(copy, data, size);
	return copy;
}

static void check_batch(lua_State *L, struct op_batch *b)
{
	u32 layouts;
	size_t size;
	const struct op_layout *layout = check_array(L, 2, sizeof(*layout), &layouts);
	const char *data = luaL_checklstring(L, 5, &size);

	luaL_argcheck(L, layouts == 1, 2, "one struct op_layout expected");
	*b = (struct op_batch){ .layout = *layout, .data_size = size };
	b->ops = check_array(L, 3, sizeof(*b->ops), &b->count);
	b->steps = check_array(L, 4, sizeof(*b->steps), &b->step_count);
	b->data = lua_newuserdata(L, size + 1);
	memcpy(b->data, data, size);
	b->values = lua_newuserdata(L, (b->count + 1) * sizeof(*b->values));
	bind_check(L, op_batch_check(b));
}

static int lua_machine_run_ops(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	struct op_batch b;

	lua_settop(L, 6);
	check_batch(L, &b);
	if (lua_toboolean(L, 6)) {
		b.frozen = true;
		bind_check(L, coordinator_run_kernel_ops(lm->coordinator, &b, &lm->view));
	} else {
		b.frozen = coordinator_is_frozen(lm->coordinator);
		op_batch_run(&b, &lm->view);
	}
	// First, since Lua may be short of memory: then nobody would destroy it.
	if (b.err)
		bind_push_error(L, b.err);
	else
		lua_pushnil(L);
	lua_pushlstring(L, (const char *)b.values, b.done * sizeof(*b.values));
	lua_pushlstring(L, (const char *)b.data, b.data_size);
	lua_pushvalue(L, -3);
	return 3;
}

static int lua_machine_claim_kernel_op(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);

	lua_pushboolean(L, coordinator_claim_kernel_op(lm->coordinator, bind_check_offset(L, 2)));
	return 1;
}

static int lua_machine_answer_kernel_op(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	size_t size;
	const char *answer = luaL_checklstring(L, 3, &size);

	bind_check(L, coordinator_answer_kernel_op(lm->coordinator, bind_check_offset(L, 2), answer, size));
	return 0;
}

const luaL_Reg machine_ops_methods[] = {
	{ "run_ops", lua_machine_run_ops },
	{ "claim_kernel_op", lua_machine_claim_kernel_op },
	{ "answer_kernel_op", lua_machine_answer_kernel_op },
	{ NULL, NULL },
};
