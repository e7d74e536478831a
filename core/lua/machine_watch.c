// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The methods of ktstr.machine that watch its memory. Numbers of 64 bits come from Lua, and go there, as bytes.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lua/machine.h"

/* In the order of lua/ktstr/watch.lua. */
struct watch_words {
	u64 address, gpa, size, is_signed, counts_only, backend, op, value, hold_ns, rate, is_code, returns;
};

struct fire_words {
	u64 watch, cpu, number, rip, before, after, size, raced, hold_ns, elapsed_ns, kind;
};

static int lua_machine_watch(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	struct watch_words words;
	size_t size;
	const char *bytes = luaL_checklstring(L, 2, &size);
	u32 id = 0;

	luaL_argcheck(L, size == sizeof(words), 2, "the words of a watch expected");
	memcpy(&words, bytes, sizeof(words));
	luaL_argcheck(L, words.backend <= WATCH_BY_PAGE && words.op <= WATCH_BITS && words.size <= 8, 2,
		      "the words of a watch expected");

	struct watch_config config = {
		.address = words.address,
		.gpa = words.gpa,
		.size = (u32)words.size,
		.is_signed = words.is_signed,
		.counts_only = words.counts_only,
		.backend = (enum watch_backend)words.backend,
		.op = (enum watch_op)words.op,
		.value = words.value,
		.hold_ns = words.hold_ns,
		.is_code = words.is_code,
		.returns = words.returns,
		.rate = words.rate > UINT32_MAX ? UINT32_MAX : (u32)words.rate,
	};
	snprintf(config.name, sizeof(config.name), "%s", luaL_checkstring(L, 3));

	struct error *err = coordinator_add_watch(lm->coordinator, &config, &id);

	machine_update_view(lm);
	bind_check(L, err);
	lua_pushnumber(L, id);
	return 1;
}

static int lua_machine_unwatch(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	struct error *err = coordinator_remove_watch(lm->coordinator, bind_check_u32(L, 2));

	machine_update_view(lm);
	bind_check(L, err);
	return 0;
}

static int lua_machine_watch_counts(lua_State *L)
{
	struct watch_counts counts =
		coordinator_watch_counts(machine_check_started(L)->coordinator, bind_check_u32(L, 2));

	lua_createtable(L, 0, 4);
	lua_pushnumber(L, (double)counts.hits);
	lua_setfield(L, -2, "hits");
	lua_pushnumber(L, (double)counts.dropped);
	lua_setfield(L, -2, "dropped");
	lua_pushnumber(L, (double)counts.raced);
	lua_setfield(L, -2, "raced");
	lua_pushstring(L, watch_backend_name(counts.backend));
	lua_setfield(L, -2, "backend");
	return 1;
}

static void push_fire(lua_State *L, const struct watch_event *event)
{
	const struct watch_fire *f = &event->fire;
	const struct fire_words words = {
		.watch = f->watch,
		.cpu = f->cpu,
		.number = f->number,
		.rip = f->rip,
		.before = f->before,
		.after = f->after,
		.size = f->size,
		.raced = f->raced,
		.hold_ns = f->hold_ns,
		.elapsed_ns = f->elapsed_ns,
		.kind = f->kind,
	};

	lua_createtable(L, 0, 2);
	lua_pushstring(L, event->tag);
	lua_setfield(L, -2, "tag");
	lua_pushlstring(L, (const char *)&words, sizeof(words));
	lua_setfield(L, -2, "words");
}

/* All that wait, in order; and whether the machine is frozen for them, for the caller to thaw. */
static int lua_machine_take_fires(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	struct watch_event event;
	int i = 0;

	lua_newtable(L);
	while (coordinator_take_fire(lm->coordinator, &event)) {
		push_fire(L, &event);
		lua_rawseti(L, -2, ++i);
	}

	u32 expirations = coordinator_expirations(lm->coordinator);
	bool is_frozen = coordinator_accept_freeze(lm->coordinator);

	if (is_frozen)
		view_freeze(&lm->view, expirations);
	lua_pushboolean(L, is_frozen);
	return 2;
}

const luaL_Reg machine_watch_methods[] = {
	{ "watch", lua_machine_watch },
	{ "unwatch", lua_machine_unwatch },
	{ "watch_counts", lua_machine_watch_counts },
	{ "take_fires", lua_machine_take_fires },
	{ NULL, NULL },
};
