// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The view of a machine's kernel, kept up with what main does to the machine. Lua's FFI uses it directly.
 */
#include "lua/machine.h"
#include "machine/frozen.h"
#include "machine/watch.h"

static bool begin_uncover(void *machine)
{
	return machine_begin_unhide(machine);
}

static void end_uncover(void *machine, const u8 *from, u8 *bytes, size_t size)
{
	machine_end_unhide(machine, from, bytes, size);
}

struct error *machine_open_view(struct lua_machine *lm)
{
	struct error *err = view_init(&lm->view, machine_memory(lm->machine), machine_kernel(lm->machine));

	lm->cover = (struct view_cover){ .begin = begin_uncover, .end = end_uncover, .ctx = lm->machine };
	lm->view.cover = &lm->cover;
	if (!err)
		lm->view.expirations_now = coordinator_expirations_at(lm->coordinator);
	return err;
}

void machine_update_view(struct lua_machine *lm)
{
	if (!lm->coordinator || !coordinator_is_frozen(lm->coordinator) || view_is_expired(&lm->view))
		view_thaw(&lm->view);
}

static int lua_machine_view(lua_State *L)
{
	lua_pushlightuserdata(L, &machine_check(L)->view);
	return 1;
}

const luaL_Reg machine_view_methods[] = {
	{ "view", lua_machine_view },
	{ NULL, NULL },
};
