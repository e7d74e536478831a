// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A Lua that has no more memory, at any moment of a call: the machine is thawed all the same.
 */
#include <libgen.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <lualib.h>

#include "core/kvm_fixture.h"
#include "lua/bind.h"

/* The allocation that fails, counted from now; 0: none. */
static u32 failing;

static void *allocate(void *ctx, void *at, size_t old_size, size_t size)
{
	(void)ctx;
	if (!size) {
		free(at);
		return NULL;
	}
	if (size > old_size && failing && --failing == 0)
		return NULL;
	return realloc(at, size);
}

static int fail_at(lua_State *L)
{
	lua_pushboolean(L, failing == 0);
	failing = (u32)luaL_checkinteger(L, 1);
	return 1;
}

/* Lua's own tables are full now and then, and grow with what is put into them next. */
static int fill_registry(lua_State *L)
{
	lua_pushvalue(L, 1);
	lua_pushboolean(L, true);
	lua_rawset(L, LUA_REGISTRYINDEX);
	return 0;
}

static const char script[] =
	"local path, fail_at, fill_registry = ...\n"
	"local core = require 'ktstr.core'\n"
	"local machine = core.machine {\n"
	"  kernel = path, cmdline = 'tiny.run=load=0', kaslr = false, la57 = false, timeout = 60,\n"
	"  topology = { nodes = { { llcs = 1, memory = 2 ^ 25 } }, cores = 1, threads = 1 },\n"
	"}\n"
	"machine:start()\n"
	"local visited, failed = 0, 0\n"
	"local function visit() visited = visited + 1 end\n"
	"for i = 1, 70 do\n"
	"  fill_registry('key' .. i)\n"
	"  local number, reached = 0, true\n"
	"  while reached do\n"
	"    number = number + 1\n"
	"    fail_at(number)\n"
	"    local ok = pcall(machine.frozen, machine, nil, visit)\n"
	"    reached = fail_at(0)\n"
	"    failed = failed + (ok and 0 or 1)\n"
	"    assert(not machine:is_frozen(), 'frozen for ever')\n"
	"  end\n"
	"end\n"
	"machine:kill()\n"
	"machine:join()\n"
	"return visited, failed\n";

static void a_machine_is_thawed_whatever_memory_is_missing(void **state)
{
	char self[PATH_MAX] = "", path[PATH_MAX + 20];
	struct bind_paths paths = { .guest = "guest" };
	lua_State *L;

	SKIP_WITHOUT_KVM();
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(path, sizeof(path), "%s/../../guest/tiny", dirname(self));
	L = lua_newstate(allocate, NULL);
	assert_non_null(L);
	luaL_openlibs(L);
	bind_preload(L, &paths);
	assert_int_equal(luaL_loadstring(L, script), 0);
	lua_pushstring(L, path);
	lua_pushcfunction(L, fail_at);
	lua_pushcfunction(L, fill_registry);
	if (lua_pcall(L, 3, 2, 0))
		fail_msg("%s", lua_tostring(L, -1));
	assert_true(lua_tointeger(L, -2) >= 70);
	assert_true(lua_tointeger(L, -1) > 0);
	lua_close(L);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_machine_is_thawed_whatever_memory_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
