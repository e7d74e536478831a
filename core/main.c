// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The program: opens Lua, finds the guest programs beside itself, hands the arguments to lua/ktstr/cli.lua.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lualib.h>

#include "base/interrupt.h"
#include "lua/bind.h"
#include "lua/loader.h"
#include "lua/machine.h"

enum { EXIT_CANNOT_RUN = 2 };

struct program {
	lua_State *L; /* NULL once it is being closed: a signal must not touch it any more */
	char guest_dir[PATH_MAX];
	struct bind_paths paths;
};

/* Instructions that a function which caught its end is given to clean up, before it is ended again. */
enum { CLEANUP_INSTRUCTIONS = 20000 };

/*
 * Runs inside the interrupted main thread, at the next Lua instruction. Where a wait has raised the
 * interruption already, that is the script's clean-up, which is not to be interrupted again; and a prompt may
 * have taken it back meanwhile. Without a signal it is the freeze limit, and nothing if that was just in time.
 */
static void raise_interrupted(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	if (interrupt_signal() && !interrupt_is_told())
		bind_raise(L, interrupt_error());
	if (!machine_visit_is_over(L))
		return;
	lua_sethook(L, raise_interrupted, LUA_MASKCOUNT, CLEANUP_INSTRUCTIONS);
	bind_raise(L, error_create(ERROR_FREEZE_LIMIT, "freeze limit: the machine has been thawed"));
}

/* lua_sethook is the one Lua call that is safe in a signal handler. */
static void hook_lua(void *arg)
{
	struct program *p = arg;

	if (p->L)
		lua_sethook(p->L, raise_interrupted, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

static bool is_readable(const char *dir, const char *file)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", dir, file) < (int)sizeof(path) && !access(path, R_OK);
}

/* In the source tree the program is build/ktstr; installed, PREFIX/bin/ktstr. */
static bool find_guest(struct program *p)
{
	static const char *const places[] = { "guest", "../lib/ktstr/guest" };
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		return false;
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	p->paths = (struct bind_paths){ .guest = p->guest_dir };
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		char guest[PATH_MAX * 2];

		snprintf(guest, sizeof(guest), "%s/%s", exe, places[i]);
		if (realpath(guest, p->guest_dir) && is_readable(p->guest_dir, "agent"))
			return true;
	}
	// Without them much is possible yet; a boot says what is missing.
	snprintf(p->guest_dir, sizeof(p->guest_dir), "%s", exe);
	return true;
}

struct arguments {
	const struct program *program;
	int argc;
	char **argv;
};

/* All that can call Lua is in here, protected: a signal may raise an error at any call. */
static int run_cli(lua_State *L)
{
	const struct arguments *args = lua_touserdata(L, 1);

	luaL_openlibs(L);
	loader_install(L);
	bind_preload(L, &args->program->paths);
	lua_getglobal(L, "require");
	lua_pushliteral(L, "ktstr.cli");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "main");
	lua_createtable(L, args->argc, 0);
	for (int i = 1; i < args->argc; i++) {
		lua_pushstring(L, args->argv[i]);
		lua_rawseti(L, -2, i);
	}
	lua_call(L, 1, 1);
	return 1;
}

static int traceback(lua_State *L)
{
	if (!lua_isstring(L, 1)) {
		if (luaL_callmeta(L, 1, "__tostring"))
			return 1;
		lua_getfield(L, 1, "message");
		return 1;
	}
	luaL_traceback(L, L, lua_tostring(L, 1), 1);
	return 1;
}

/* cli.main reports errors itself; what arrives here is a fault in the library, or an early signal. */
static int run(const struct program *p, int argc, char **argv)
{
	struct arguments args = { .program = p, .argc = argc, .argv = argv };
	lua_State *L = p->L;

	lua_pushcfunction(L, traceback);
	lua_pushcfunction(L, run_cli);
	lua_pushlightuserdata(L, &args);
	if (lua_pcall(L, 1, 1, 1)) {
		if (interrupt_signal())
			return 128 + interrupt_signal();
		fprintf(stderr, "ktstr: %s\n", lua_tostring(L, -1));
		return EXIT_CANNOT_RUN;
	}
	return lua_tointeger(L, -1);
}

int main(int argc, char **argv)
{
	struct program p = { .L = luaL_newstate() };

	if (!p.L) {
		fprintf(stderr, "ktstr: not enough memory for Lua\n");
		return EXIT_CANNOT_RUN;
	}
	if (!find_guest(&p))
		return EXIT_CANNOT_RUN;

	struct error *err = interrupt_install(hook_lua, &p);

	if (err) {
		fprintf(stderr, "ktstr: %s\n", error_message(err));
		return EXIT_CANNOT_RUN;
	}

	int status = run(&p, argc, argv);
	lua_State *L = p.L;

	p.L = NULL;
	lua_close(L);
	if (fflush(stdout) && status == 0) {
		fprintf(stderr, "ktstr: standard output: %s\n", strerror(errno));
		status = EXIT_CANNOT_RUN;
	}
	return status;
}
