// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The methods of ktstr.machine that stop it and look at it.
 */
#include <luajit.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "coordinator/kernel_op.h"
#include "lua/image.h"
#include "lua/machine.h"
#include "warm/warm.h"

enum {
	READ_MAX = 16 << 20,
	STEPS_MAX = 1000000,
};

static u64 opt_limit(lua_State *L, int index, u64 fallback)
{
	if (lua_isnoneornil(L, index))
		return fallback;

	double seconds = luaL_checknumber(L, index);

	luaL_argcheck(L, seconds >= 0, index, "a number of seconds from 0 expected");
	return machine_seconds_to_ns(seconds);
}

static struct error *freeze(struct lua_machine *lm, u64 limit_ns)
{
	// Before: the limit may come before anything else is done here.
	u32 expirations = coordinator_expirations(lm->coordinator);
	struct error *err = coordinator_freeze(lm->coordinator, limit_ns);

	if (!err)
		view_freeze(&lm->view, expirations);
	return err;
}

static struct error *thaw(struct lua_machine *lm)
{
	struct error *err = coordinator_thaw(lm->coordinator);

	machine_update_view(lm);
	return err;
}

static int lua_machine_freeze(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);

	bind_check(L, freeze(lm, opt_limit(L, 2, UINT64_MAX)));
	return 0;
}

static int lua_machine_thaw(lua_State *L)
{
	bind_check(L, thaw(machine_check_started(L)));
	return 0;
}

static int lua_machine_is_frozen(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);

	lua_pushboolean(L, lm->coordinator && coordinator_is_frozen(lm->coordinator));
	return 1;
}

/* --- frozen(limit, fn, ...) --- */

static const char visits_key; /* its address names, in the registry, where the innermost visit is noted */

/* A function that runs while its machine is frozen. On frozen()'s stack, so never longer than the call. */
struct visit {
	struct lua_machine *lm;
	u32 expirations; /* so many limits had come before it */
	struct visit *outer;
};

/* Lua's memory, so that a visit can be noted, and forgotten, without asking Lua for any. */
struct visits {
	struct visit *innermost;
};

/* NULL before the first visit. */
static struct visits *find_visits(lua_State *L)
{
	lua_pushlightuserdata(L, (void *)&visits_key);
	lua_rawget(L, LUA_REGISTRYINDEX);

	struct visits *visits = lua_touserdata(L, -1);

	lua_pop(L, 1);
	return visits;
}

static struct visits *make_visits(lua_State *L)
{
	struct visits *visits = find_visits(L);

	if (visits)
		return visits;
	lua_pushlightuserdata(L, (void *)&visits_key);
	visits = lua_newuserdata(L, sizeof(*visits));
	visits->innermost = NULL;
	lua_rawset(L, LUA_REGISTRYINDEX);
	return visits;
}

/* Also when the function has caught the error that told it so. */
static bool visit_is_over(const struct visit *v)
{
	return v->lm->coordinator && coordinator_expirations(v->lm->coordinator) != v->expirations;
}

bool machine_visit_is_over(lua_State *L)
{
	const struct visits *visits = find_visits(L);

	for (const struct visit *v = visits ? visits->innermost : NULL; v; v = v->outer)
		if (visit_is_over(v))
			return true;
	return false;
}

/*
 * Whatever fn raises is caught here, at the boundary, the machine thawed, and the error raised again. Between freeze
 * and thaw nothing else is asked of Lua: it may raise an error at any time, being short of memory.
 */
static int lua_machine_frozen(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	bool is_frozen = lua_isboolean(L, 2); // for a watch, and main's now
	u64 limit = is_frozen ? 0 : opt_limit(L, 2, UINT64_MAX);

	luaL_checktype(L, 3, LUA_TFUNCTION);
	// A compiled loop looks at no hook, so nothing could end it. What fn calls is compiled as ever.
	luaJIT_setmode(L, 3, LUAJIT_MODE_ALLFUNC | LUAJIT_MODE_OFF);

	struct visits *visits = make_visits(L);
	struct visit visit = {
		.lm = lm,
		.expirations = coordinator_expirations(lm->coordinator),
		.outer = visits->innermost,
	};

	if (!is_frozen)
		bind_check(L, freeze(lm, limit));
	visits->innermost = &visit;

	int failed = lua_pcall(L, lua_gettop(L) - 3, LUA_MULTRET, 0);

	visits->innermost = visit.outer;

	// fn may have ended the machine, or thawed it itself.
	if (lm->coordinator)
		error_destroy(thaw(lm));
	if (visit_is_over(&visit))
		bind_raise(L, error_create(ERROR_FREEZE_LIMIT, "freeze limit: the machine has been thawed"));
	if (failed)
		return lua_error(L);
	return lua_gettop(L) - 2;
}

/* --- looking --- */

static int lua_machine_regs(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	bind_check(L, coordinator_get_regs(lm->coordinator, bind_check_u32(L, 2), &regs, &sregs));
	lua_pushlstring(L, (const char *)&regs, sizeof(regs));
	lua_pushlstring(L, (const char *)&sregs, sizeof(sregs));
	return 2;
}

static int lua_machine_msr(lua_State *L)
{
	u64 value = 0;

	bind_check(L, coordinator_get_msr(machine_check_started(L)->coordinator, bind_check_u32(L, 2),
					  bind_check_u32(L, 3), &value));
	lua_pushlstring(L, (const char *)&value, sizeof(value));
	return 1;
}

static int lua_machine_step(lua_State *L)
{
	static const u64 default_limit = 5 * NSEC_PER_SEC;
	struct lua_machine *lm = machine_check_started(L);
	u32 cpu = bind_check_u32(L, 2);
	u32 count = bind_check_u32(L, 3);
	u32 executed = 0;

	luaL_argcheck(L, count >= 1 && count <= STEPS_MAX, 3, "1 to 1000000 instructions expected");
	bind_check(L, coordinator_step(lm->coordinator, cpu, count, opt_limit(L, 4, default_limit), &executed));
	lua_pushnumber(L, executed);
	return 1;
}

static int lua_machine_read_physical(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	u64 address = bind_check_offset(L, 2);
	u64 size = bind_check_offset(L, 3);

	luaL_argcheck(L, size >= 1 && size <= READ_MAX, 3, "1 byte to 16 MiB expected");

	void *data = lua_newuserdata(L, size); // the collector's, should anything fail

	bind_check(L, coordinator_read_physical(lm->coordinator, address, data, size));
	lua_pushlstring(L, data, size);
	return 1;
}

static int lua_machine_memory_crc(lua_State *L)
{
	u32 crc = 0;

	bind_check(L, coordinator_memory_crc(machine_check_started(L)->coordinator, &crc));
	lua_pushnumber(L, crc);
	return 1;
}

/* --- captures --- */

static int lua_machine_capture(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	size_t length;
	const char *tag = luaL_checklstring(L, 2, &length);

	if (strlen(tag) != length)
		tag = ""; // a NUL in it is not printable either
	bind_check(L, coordinator_capture(lm->coordinator, tag));
	return 0;
}

static const char record_metatable[] = "ktstr.record";

/* What Lua's FFI finds a struct record * in, and is held by. */
struct lua_record {
	struct record *record;
};

static int record_gc(lua_State *L)
{
	struct lua_record *lr = luaL_checkudata(L, 1, record_metatable);

	record_put(lr->record);
	lr->record = NULL;
	return 0;
}

static void push_record(lua_State *L, struct record *record)
{
	struct lua_record *lr = lua_newuserdata(L, sizeof(*lr));

	lr->record = NULL;
	if (luaL_newmetatable(L, record_metatable)) {
		lua_pushcfunction(L, record_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	lr->record = record_get(record);
}

/* What captures record: a program of bytes; or nothing, and why. */
static int lua_machine_set_plan(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	const char *reason = luaL_optstring(L, 3, NULL);
	size_t size = 0;
	const char *layout = luaL_optlstring(L, 4, NULL, &size);
	struct printk_layout log;
	struct plan *plan = NULL;

	if (layout && size != sizeof(log))
		return bind_raise(L, error_create(ERROR_INVALID, "the layout of a kernel's log has %zu bytes, not %zu",
						  sizeof(log), size));
	if (layout)
		memcpy(&log, layout, sizeof(log));

	if (!lua_isnoneornil(L, 2)) {
		const char *bytes = luaL_checklstring(L, 2, &size);

		bind_check(L, plan_create(bytes, size, &plan));
	}

	struct error *err = coordinator_set_plan(lm->coordinator, plan, &lm->view, layout ? &log : NULL,
						 reason);

	plan_put(plan);
	bind_check(L, err);
	return 0;
}

/* nil, "": in none. */
static int lua_machine_set_phase(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	size_t length;
	const char *phase = luaL_optlstring(L, 2, "", &length);

	if (length != strlen(phase))
		phase = "\n"; // a NUL in it is not printable either
	bind_check(L, coordinator_set_phase(lm->coordinator, phase));
	return 0;
}

static int lua_machine_wake_on_plan(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);

	if (lm->coordinator)
		coordinator_wake_on_plan(lm->coordinator, lua_toboolean(L, 2));
	return 0;
}

static void push_capture(lua_State *L, const struct capture *c)
{
	lua_createtable(L, 0, 12);
	lua_pushnumber(L, (double)c->number);
	lua_setfield(L, -2, "number");
	lua_pushboolean(L, c->missed);
	lua_setfield(L, -2, "missed");
	lua_pushstring(L, c->reason);
	lua_setfield(L, -2, "reason");
	lua_pushnumber(L, (double)c->frozen_ns / NSEC_PER_SEC);
	lua_setfield(L, -2, "frozen");
	if (c->record) {
		push_record(L, c->record);
		lua_setfield(L, -2, "record");
	}
	lua_pushstring(L, c->tag);
	lua_setfield(L, -2, "tag");
	lua_pushstring(L, freeze_source_name(c->source));
	lua_setfield(L, -2, "source");
	lua_pushnumber(L, (double)c->elapsed_ns / NSEC_PER_SEC);
	lua_setfield(L, -2, "elapsed");
	lua_pushnumber(L, (double)c->clock_ns / NSEC_PER_SEC);
	lua_setfield(L, -2, "clock");
	if (c->workload_ns != CAPTURE_NO_WORKLOAD) {
		lua_pushnumber(L, (double)c->workload_ns / NSEC_PER_SEC);
		lua_setfield(L, -2, "workload");
	}
	lua_pushnumber(L, c->epoch);
	lua_setfield(L, -2, "epoch");
	if (*c->phase) {
		lua_pushstring(L, c->phase);
		lua_setfield(L, -2, "phase");
	}
	lua_createtable(L, (int)c->cpus, 0);
	for (u32 i = 0; i < c->cpus; i++) {
		lua_createtable(L, 0, 2);
		lua_pushlstring(L, (const char *)&c->cpu[i].regs, sizeof(c->cpu[i].regs));
		lua_setfield(L, -2, "regs");
		lua_pushlstring(L, (const char *)&c->cpu[i].sregs, sizeof(c->cpu[i].sregs));
		lua_setfield(L, -2, "sregs");
		lua_rawseti(L, -2, (int)i + 1);
	}
	lua_setfield(L, -2, "cpus");
}

void machine_keep_captures(struct lua_machine *lm)
{
	capture_store_clear(&lm->captures);
	capture_store_move(coordinator_captures(lm->coordinator), &lm->captures);
	coordinator_freeze_counts(lm->coordinator, lm->counts);
}

static int lua_machine_captures(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);
	int i = 0;

	if (lm->coordinator) {
		capture_store_clear(&lm->captures); // left over where Lua had no memory for them
		bind_check(L, capture_store_copy(coordinator_captures(lm->coordinator), &lm->captures));
	}
	lua_createtable(L, (int)lm->captures.count, 0);
	for (const struct capture *c = lm->captures.first; c; c = c->next) {
		push_capture(L, c);
		lua_rawseti(L, -2, ++i);
	}
	if (lm->coordinator)
		capture_store_clear(&lm->captures);
	return 1;
}

static int lua_machine_freeze_counts(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);
	struct freeze_counts counts[FREEZE_SOURCES];

	memcpy(counts, lm->counts, sizeof(counts));
	if (lm->coordinator)
		coordinator_freeze_counts(lm->coordinator, counts);
	lua_createtable(L, 0, FREEZE_SOURCES);
	for (u32 i = 0; i < FREEZE_SOURCES; i++) {
		lua_createtable(L, 0, 4);
		lua_pushnumber(L, (double)counts[i].done);
		lua_setfield(L, -2, "done");
		lua_pushnumber(L, (double)counts[i].busy);
		lua_setfield(L, -2, "busy");
		lua_pushnumber(L, (double)counts[i].timeout);
		lua_setfield(L, -2, "timeout");
		lua_pushnumber(L, (double)counts[i].failed);
		lua_setfield(L, -2, "failed");
		lua_setfield(L, -2, freeze_source_name((enum freeze_source)i));
	}
	return 1;
}

/* --- saving --- */

static struct buf check_bytes(lua_State *L, int index)
{
	struct buf ret = BUF_INIT;

	ret.data = (u8 *)luaL_checklstring(L, index, &ret.size);
	return ret;
}

static int lua_machine_save(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	struct buf identity = check_bytes(L, 2), script = check_bytes(L, 3);
	const char *dir = luaL_optstring(L, 4, NULL);

	bind_check(L, warm_save(lm->coordinator, dir, &identity, &script, image_push(L)));
	return 1;
}

static int lua_machine_rewind(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	struct error *err = warm_rewind(lm->coordinator, image_check(L, 2));

	// Also after an error: what is left of it is not what was seen.
	view_rewind(&lm->view);
	bind_check(L, err);
	return 0;
}

/* --- for tests --- */

static enum freeze_source check_source(lua_State *L, int index)
{
	const char *wanted = luaL_checkstring(L, index);

	for (u32 i = 0; i < FREEZE_SOURCES; i++)
		if (strcmp(freeze_source_name((enum freeze_source)i), wanted) == 0)
			return (enum freeze_source)i;
	luaL_argerror(L, index, "the name of a source expected");
	__builtin_unreachable();
}

static int lua_machine_test_hook(lua_State *L)
{
	static const char *const names[] = { "periodic", "deaf", "rendezvous_timeout", "capture",
					     "kernel_op_timeout", "late_failure", NULL };
	struct coordinator *c = machine_check_started(L)->coordinator;

	switch (luaL_checkoption(L, 2, NULL, names)) {
	case 0:
		bind_check(L, coordinator_inject_periodic(c, opt_limit(L, 3, 0)));
		break;
	case 1:
		bind_check(L, coordinator_inject_deafness(c, bind_check_u32(L, 3), opt_limit(L, 4, 0)));
		break;
	case 2:
		bind_check(L, coordinator_inject_patience(c, opt_limit(L, 3, 0)));
		break;
	case 3:
		bind_check(L, coordinator_inject_capture(c, check_source(L, 3), luaL_checkstring(L, 4)));
		break;
	case 4:
		coordinator_inject_kernel_op_patience(c, opt_limit(L, 3, 0));
		break;
	case 5:
		coordinator_inject_late_failure(c);
		break;
	}
	return 0;
}

const luaL_Reg machine_freeze_methods[] = {
	{ "freeze", lua_machine_freeze },
	{ "thaw", lua_machine_thaw },
	{ "is_frozen", lua_machine_is_frozen },
	{ "frozen", lua_machine_frozen },
	{ "regs", lua_machine_regs },
	{ "msr", lua_machine_msr },
	{ "step", lua_machine_step },
	{ "read_physical", lua_machine_read_physical },
	{ "memory_crc", lua_machine_memory_crc },
	{ "set_plan", lua_machine_set_plan },
	{ "set_phase", lua_machine_set_phase },
	{ "wake_on_plan", lua_machine_wake_on_plan },
	{ "capture", lua_machine_capture },
	{ "captures", lua_machine_captures },
	{ "save", lua_machine_save },
	{ "rewind", lua_machine_rewind },
	{ "freeze_counts", lua_machine_freeze_counts },
	{ "test_hook", lua_machine_test_hook },
	{ NULL, NULL },
};
