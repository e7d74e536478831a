// SPDX-License-Identifier: GPL-2.0-or-later
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "coordinator/coordinator.h"
#include "image/cpio.h"
#include "lua/image.h"
#include "lua/machine.h"
#include "machine/host_cpu.h"
#include "warm/warm.h"

static const char machine_metatable[] = "ktstr.machine";

struct lua_machine *machine_check(lua_State *L)
{
	return luaL_checkudata(L, 1, machine_metatable);
}

static struct lua_machine *check_alive(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);

	if (!lm->coordinator)
		bind_raise(L, error_create(ERROR_ENDED, "the machine has ended"));
	return lm;
}

struct lua_machine *machine_check_started(lua_State *L)
{
	struct lua_machine *lm = check_alive(L);

	if (!lm->started)
		bind_raise(L, error_create(ERROR_INVALID, "the machine has not been started"));
	machine_update_view(lm);
	return lm;
}

static void read_node(lua_State *L, struct topology *t, u32 node)
{
	if (!lua_istable(L, -1))
		bind_raise(L, error_create(ERROR_INVALID, "topology.nodes[%u] must be a table", node + 1));
	t->node_llcs[node] = (u32)bind_field_number(L, lua_gettop(L), "llcs", 0, TOPOLOGY_MAX_CPUS);
	t->node_memory[node] = (u64)bind_field_number(L, lua_gettop(L), "memory", 0, 0x1p52);
}

static void read_distances(lua_State *L, struct topology *t)
{
	for (u32 i = 0; i < t->nodes; i++) {
		for (u32 j = 0; j < t->nodes; j++)
			t->distance[i][j] = i == j ? 10 : 20;
		if (!lua_istable(L, -1))
			continue;
		lua_rawgeti(L, -1, (int)i + 1);
		for (u32 j = 0; j < t->nodes && lua_istable(L, -1); j++) {
			lua_rawgeti(L, -1, (int)j + 1);
			t->distance[i][j] = (u8)fmin(fmax(lua_tonumber(L, -1), 0), 255);
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
}

static void read_topology(lua_State *L, int options, struct topology *t)
{
	*t = (struct topology){ 0 };
	lua_getfield(L, options, "topology");
	if (!lua_istable(L, -1))
		bind_raise(L, error_create(ERROR_INVALID, "topology must be a table"));

	int topology = lua_gettop(L);

	t->cores = (u32)bind_field_number(L, topology, "cores", 1, TOPOLOGY_MAX_CPUS);
	t->threads = (u32)bind_field_number(L, topology, "threads", 1, 8);
	lua_getfield(L, topology, "nodes");
	if (!lua_istable(L, -1) || !lua_objlen(L, -1) || lua_objlen(L, -1) > TOPOLOGY_MAX_NODES)
		bind_raise(L, error_create(ERROR_INVALID, "topology.nodes must list 1 to %d nodes",
					   TOPOLOGY_MAX_NODES));
	t->nodes = (u32)lua_objlen(L, -1);
	for (u32 i = 0; i < t->nodes; i++) {
		lua_rawgeti(L, -1, (int)i + 1);
		read_node(L, t, i);
		lua_pop(L, 1);
	}
	lua_getfield(L, topology, "distances");
	read_distances(L, t);
	lua_settop(L, topology - 1);
	bind_check(L, topology_check(t));
}

/* On the coordinator's thread: the function that main runs is to end, wherever it is. */
static void break_visit(void *ctx)
{
	(void)ctx;
	interrupt_break();
}

static struct error *create(struct lua_machine *lm, const char *kernel, struct machine_config *config,
			    u64 timeout_ns)
{
	struct kernel_image *image;
	struct error *err = kernel_image_open(kernel, &image);

	if (err)
		return err;
	config->kernel = image;
	err = machine_create(config, &lm->machine);
	kernel_image_close(image);
	if (err)
		return err;
	err = coordinator_create(lm->machine, timeout_ns, &lm->coordinator);
	if (!err)
		coordinator_on_limit(lm->coordinator, break_visit, NULL);
	return err ? err : machine_open_view(lm);
}

/* Not a number is 0. */
u64 machine_seconds_to_ns(double seconds)
{
	return seconds >= 0x1p32 ? UINT64_MAX : (u64)(fmax(seconds, 0) * NSEC_PER_SEC);
}

/* A run's limit. To the coordinator 0 is none, which is what only nil asks for. */
static u64 read_timeout(lua_State *L, int options)
{
	lua_getfield(L, options, "timeout");

	bool given = !lua_isnil(L, -1);
	double seconds = lua_tonumber(L, -1);

	if (given && !(seconds > 0))
		bind_raise(L, error_create(ERROR_INVALID, "timeout must be a number of seconds above 0"));
	lua_pop(L, 1);
	return given ? machine_seconds_to_ns(fmax(seconds, 1e-9)) : 0;
}

static u64 opt_timeout(lua_State *L, int index)
{
	return lua_isnoneornil(L, index) ? UINT64_MAX : machine_seconds_to_ns(luaL_checknumber(L, index));
}

/* true, false, or nil for what the host has. */
static enum invariant_tsc read_invariant_tsc(lua_State *L, int options)
{
	lua_getfield(L, options, "invariant_tsc");

	enum invariant_tsc choice = INVARIANT_TSC_HOST;

	if (!lua_isnil(L, -1))
		choice = lua_toboolean(L, -1) ? INVARIANT_TSC_SHOWN : INVARIANT_TSC_HIDDEN;
	lua_pop(L, 1);
	return choice;
}

/* What is asked for at the table at index 1; the kernel's path is the caller's to read. */
static void read_config(lua_State *L, struct machine_config *config)
{
	*config = (struct machine_config){
		.kaslr = bind_field_bool(L, 1, "kaslr", true),
		.la57 = bind_field_bool(L, 1, "la57", false),
		.steal_time = bind_field_bool(L, 1, "steal_time", true),
		.invariant_tsc = read_invariant_tsc(L, 1),
	};
	read_topology(L, 1, &config->topology);
}

static int core_host_cpu(lua_State *L)
{
	struct machine_config config;
	char text[HOST_CPU_TEXT_MAX];

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	read_config(L, &config);
	bind_check(L, host_cpu_text(&config, text));
	lua_pushstring(L, text);
	return 1;
}

static struct lua_machine *push_machine(lua_State *L)
{
	struct lua_machine *lm = lua_newuserdata(L, sizeof(*lm));

	*lm = (struct lua_machine){ .touched_directory = -1 };
	capture_store_init(&lm->captures);
	luaL_getmetatable(L, machine_metatable);
	lua_setmetatable(L, -2);
	return lm;
}

static int core_machine(lua_State *L)
{
	struct machine_config config;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	read_config(L, &config);
	config.cmdline = bind_field_string(L, 1, "cmdline", true);

	const char *kernel = bind_field_string(L, 1, "kernel", true);

	lua_getfield(L, 1, "initrd");
	if (!lua_isnil(L, -1)) {
		struct cpio *c = bind_check_cpio(L, lua_gettop(L));

		config.initrd = c->archive.data;
		config.initrd_size = c->archive.size;
	}

	u64 timeout = read_timeout(L, 1);
	struct lua_machine *lm = push_machine(L);

	bind_check(L, create(lm, kernel, &config, timeout));
	return 1;
}

static struct error *restore(struct lua_machine *lm, const struct image *image, u64 timeout_ns)
{
	struct error *err = warm_restore(image, timeout_ns, &lm->machine, &lm->coordinator);

	if (!err)
		coordinator_on_limit(lm->coordinator, break_visit, NULL);
	if (!err)
		err = machine_open_view(lm);
	if (!err)
		lm->touched_directory = image_touched_directory(image);
	return err;
}

static int lua_machine_note_touched(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);

	if (lm->coordinator && lm->touched_directory >= 0) {
		warm_note_touched(lm->coordinator, lm->touched_directory);
		lm->touched_directory = -1;
	}
	return 0;
}

static int core_machine_saved(lua_State *L)
{
	struct image *image = image_check(L, 1);

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);

	u64 timeout = read_timeout(L, 2);

	bind_check(L, restore(push_machine(L), image, timeout));
	return 1;
}

/* Into lm->console, which is the collector's to free should Lua run out of memory. */
static void read_console(struct lua_machine *lm, u64 from)
{
	buf_deinit(&lm->console);

	u64 end = textlog_read(machine_console_log(lm->machine), from, &lm->console);

	lm->console_start = end - lm->console.size;
}

static void keep_serial_text(struct lua_machine *lm)
{
	read_console(lm, 0);
	textlog_read(machine_last_words(lm->machine), 0, &lm->last_words);
}

/* Gives the host's memory back as soon as the result is known; the object itself waits for the collector. */
static void release(struct lua_machine *lm)
{
	if (lm->touched_directory >= 0)
		close(lm->touched_directory);
	lm->touched_directory = -1;
	view_end(&lm->view);
	coordinator_destroy(lm->coordinator);
	machine_destroy(lm->machine);
	lm->coordinator = NULL;
	lm->machine = NULL;
}

static int machine_gc(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);

	release(lm);
	free(lm->mail);
	lm->mail = NULL;
	capture_store_clear(&lm->captures); // and usable: a script may call this, and go on
	buf_deinit(&lm->console);
	buf_deinit(&lm->last_words);
	return 0;
}

static int lua_machine_start(lua_State *L)
{
	struct lua_machine *lm = check_alive(L);

	if (lm->started)
		bind_raise(L, error_create(ERROR_INVALID, "the machine has been started before"));

	struct error *err = coordinator_start(lm->coordinator);

	lm->started = !err;
	// There is no second try: what is left of it is given back now.
	if (err)
		release(lm);
	bind_check(L, err);
	return 0;
}

static int lua_machine_send(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	size_t size;
	u32 type = bind_check_u32(L, 2);
	const char *payload = luaL_checklstring(L, 3, &size);

	bind_check(L, coordinator_send(lm->coordinator, type, payload, size, opt_timeout(L, 4)));
	return 0;
}

static int push_no_frame(lua_State *L, const char *why)
{
	lua_pushnil(L);
	lua_pushstring(L, why);
	return 2;
}

static int lua_machine_recv(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);

	if (lm->ended)
		return push_no_frame(L, "ended");
	machine_check_started(L);

	enum coordinator_event event;
	u64 timeout = opt_timeout(L, 2);

	free(lm->mail); // left over where Lua had no memory for it
	lm->mail = NULL;
	bind_check(L, coordinator_recv(lm->coordinator, timeout, &event, &lm->mail));
	switch (event) {
	case COORDINATOR_TIMEOUT:
		return push_no_frame(L, "timeout");
	case COORDINATOR_ENDED:
		return push_no_frame(L, "ended");
	case COORDINATOR_PLAN:
		return push_no_frame(L, "plan");
	case COORDINATOR_CONSOLE:
		return push_no_frame(L, "console");
	case COORDINATOR_WATCH:
		return push_no_frame(L, "watch");
	case COORDINATOR_FRAME:
		break;
	}
	lua_pushnumber(L, lm->mail->type);
	lua_pushlstring(L, (const char *)lm->mail->payload, lm->mail->size);
	free(lm->mail);
	lm->mail = NULL;
	return 2;
}

static int lua_machine_wake_on_console(lua_State *L)
{
	coordinator_wake_on_console(check_alive(L)->coordinator, lua_toboolean(L, 2));
	return 0;
}

static int lua_machine_console(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);
	u64 from = lua_isnoneornil(L, 2) ? 0 : bind_check_offset(L, 2);

	if (lm->machine)
		read_console(lm, from);
	if (lm->console.failed)
		bind_raise(L, error_no_memory());

	u64 skip = from > lm->console_start ? from - lm->console_start : 0;

	if (skip > lm->console.size)
		skip = lm->console.size;
	if (lm->console.data)
		lua_pushlstring(L, (const char *)lm->console.data + skip, lm->console.size - skip);
	else
		lua_pushliteral(L, "");
	lua_pushnumber(L, (double)(lm->console_start + lm->console.size));
	// While it runs, the next call reads anew.
	if (lm->machine)
		buf_deinit(&lm->console);
	return 2;
}

static int lua_machine_kill(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);

	if (lm->coordinator)
		coordinator_kill(lm->coordinator);
	view_thaw(&lm->view); // by its end
	return 0;
}

static void push_channel(lua_State *L, const struct frame_stats *counts)
{
	lua_createtable(L, 0, 5);
	lua_pushnumber(L, (double)counts->frames);
	lua_setfield(L, -2, "frames");
	lua_pushnumber(L, (double)counts->bad_headers);
	lua_setfield(L, -2, "bad_headers");
	lua_pushnumber(L, (double)counts->bad_payloads);
	lua_setfield(L, -2, "bad_payloads");
	lua_pushnumber(L, (double)counts->unknown);
	lua_setfield(L, -2, "unknown");
	lua_pushnumber(L, (double)counts->skipped_bytes);
	lua_setfield(L, -2, "skipped_bytes");
}

static void push_result(lua_State *L, const struct lua_machine *lm)
{
	const struct run_result *r = &lm->result;

	lua_createtable(L, 0, 9);
	lua_pushstring(L, exit_reason_name(r->machine.reason));
	lua_setfield(L, -2, "exit_reason");
	lua_pushnumber(L, r->exit_code);
	lua_setfield(L, -2, "exit_code");
	lua_pushboolean(L, r->machine.timed_out);
	lua_setfield(L, -2, "timed_out");
	lua_pushnumber(L, (double)r->machine.run_ns / NSEC_PER_SEC);
	lua_setfield(L, -2, "seconds");
	lua_pushboolean(L, r->reported);
	lua_setfield(L, -2, "reported");
	if (r->reported) {
		lua_pushnumber(L, r->exit_code);
		lua_setfield(L, -2, "guest_exit");
	}
	if (r->machine.detail[0]) {
		lua_pushstring(L, r->machine.detail);
		lua_setfield(L, -2, "detail");
	}
	lua_pushlstring(L, lm->last_words.data ? (const char *)lm->last_words.data : "",
			lm->last_words.size);
	lua_setfield(L, -2, "last_words");
	lua_pushstring(L, r->warnings);
	lua_setfield(L, -2, "warnings");
	if (r->failure) {
		lua_createtable(L, 0, 2);
		lua_pushstring(L, kernel_failure_name(r->failure));
		lua_setfield(L, -2, "kind");
		lua_pushstring(L, r->failure_line);
		lua_setfield(L, -2, "line");
		lua_setfield(L, -2, "failure");
	}
	push_channel(L, &r->channel);
	lua_setfield(L, -2, "channel");
}

static int lua_machine_join(lua_State *L)
{
	struct lua_machine *lm = machine_check(L);

	if (!lm->ended) {
		machine_check_started(L);
		bind_check(L, coordinator_join(lm->coordinator, &lm->result));
		keep_serial_text(lm);
		machine_keep_captures(lm);
		release(lm);
		lm->ended = true;
	}
	push_result(L, lm);
	return 1;
}

void bind_machine(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "start", lua_machine_start },
		{ "send", lua_machine_send },
		{ "recv", lua_machine_recv },
		{ "wake_on_console", lua_machine_wake_on_console },
		{ "console", lua_machine_console },
		{ "note_touched", lua_machine_note_touched },
		{ "kill", lua_machine_kill },
		{ "join", lua_machine_join },
		{ NULL, NULL },
	};

	luaL_newmetatable(L, machine_metatable);
	lua_pushcfunction(L, machine_gc);
	lua_setfield(L, -2, "__gc");
	lua_newtable(L);
	luaL_register(L, NULL, methods);
	luaL_register(L, NULL, machine_freeze_methods);
	luaL_register(L, NULL, machine_view_methods);
	luaL_register(L, NULL, machine_dump_methods);
	luaL_register(L, NULL, machine_monitor_methods);
	luaL_register(L, NULL, machine_watch_methods);
	luaL_register(L, NULL, machine_periodic_methods);
	luaL_register(L, NULL, machine_ops_methods);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	lua_pushcfunction(L, core_machine);
	lua_setfield(L, -2, "machine");
	lua_pushcfunction(L, core_machine_saved);
	lua_setfield(L, -2, "machine_saved");
	lua_pushcfunction(L, core_host_cpu);
	lua_setfield(L, -2, "host_cpu");
}
