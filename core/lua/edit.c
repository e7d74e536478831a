// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "base/interrupt.h"
#include "lua/bind.h"

static const char editor_metatable[] = "ktstr.editor";

struct lua_editor {
	EditLine *el; /* NULL once it is closed */
	History *history;
	locale_t locale; /* libedit's alone: the process stays in "C" */
	int complete; /* reference to the function, or LUA_NOREF */
	lua_State *L; /* who waits for a line */
	const char *prompt;
	bool interrupted; /* a signal came while it was waited for a key */
};

static struct lua_editor *check(lua_State *L)
{
	struct lua_editor *e = luaL_checkudata(L, 1, editor_metatable);

	if (!e->el)
		bind_raise(L, error_create(ERROR_INVALID, "the editor has been closed"));
	return e;
}

static struct lua_editor *editor_of(EditLine *el)
{
	void *e = NULL;

	el_get(el, EL_CLIENTDATA, &e);
	return e;
}

static char *show_prompt(EditLine *el)
{
	return (char *)editor_of(el)->prompt;
}

/* One byte from the terminal: 1, 0 at its end, -1 when a signal came first. */
static int read_byte(struct lua_editor *e, char *byte)
{
	struct pollfd p[] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = interrupt_fd(), .events = POLLIN },
	};

	for (;;) {
		int ready = poll(p, ARRAY_SIZE(p), -1);

		if (interrupt_signal()) {
			e->interrupted = true;
			return -1;
		}
		if (ready < 0 && errno != EINTR)
			return 0;
		if (ready <= 0 || !p[0].revents)
			continue;

		ssize_t n = read(STDIN_FILENO, byte, 1);

		if (n >= 0)
			return (int)n;
		if (errno != EINTR && errno != EAGAIN)
			return 0; // the terminal is gone
	}
}

/* libedit's source of keys: its own would sleep through the signals. */
static int read_key(EditLine *el, wchar_t *ret)
{
	struct lua_editor *e = editor_of(el);
	mbstate_t state = { 0 };
	char byte;

	for (;;) {
		int n = read_byte(e, &byte);

		if (n <= 0)
			return n;

		size_t size = mbrtowc(ret, &byte, 1, &state);

		if (size == (size_t)-1)
			state = (mbstate_t){ 0 }; // no character at all: as if it had not been typed
		else if (size != (size_t)-2)
			return 1;
	}
}

struct completion {
	struct lua_editor *editor;
	unsigned char result;
};

/* Asks the function: what is to be inserted, or what there is to choose from. */
static int run_complete(lua_State *L)
{
	struct completion *c = lua_touserdata(L, 1);
	EditLine *el = c->editor->el;
	const LineInfo *line = el_line(el);

	lua_rawgeti(L, LUA_REGISTRYINDEX, c->editor->complete);
	lua_pushlstring(L, line->buffer, (size_t)(line->cursor - line->buffer));
	lua_call(L, 1, 2);

	const char *insert = lua_tostring(L, -2), *choice = lua_tostring(L, -1);

	if (choice) {
		fprintf(stdout, "\n%s\n", choice);
		c->result = CC_REDISPLAY;
	}
	if (insert && *insert && !el_insertstr(el, insert))
		c->result = choice ? CC_REDISPLAY : CC_REFRESH;
	return 0;
}

/* An error must not fly through libedit. */
static unsigned char complete(EditLine *el, int key)
{
	struct completion c = { .editor = editor_of(el), .result = CC_ERROR };
	lua_State *L = c.editor->L;

	(void)key;
	if (lua_cpcall(L, run_complete, &c))
		lua_pop(L, 1);
	return c.result;
}

static void configure(struct lua_editor *e, int history_size)
{
	HistEvent event;

	el_set(e->el, EL_CLIENTDATA, e);
	el_set(e->el, EL_GETCFN, read_key);
	el_set(e->el, EL_PROMPT, show_prompt);
	el_set(e->el, EL_EDITOR, "emacs");
	el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
	history(e->history, &event, H_SETSIZE, history_size);
	history(e->history, &event, H_SETUNIQUE, 1);
	el_set(e->el, EL_HIST, history, e->history);
	// What the user wants otherwise: ~/.editrc.
	el_source(e->el, NULL);
	if (e->complete != LUA_NOREF) {
		el_set(e->el, EL_ADDFN, "ktstr-complete", "complete a name", complete);
		el_set(e->el, EL_BIND, "^I", "ktstr-complete", NULL);
	}
}

static void destroy(lua_State *L, struct lua_editor *e)
{
	if (e->el)
		el_end(e->el);
	if (e->history)
		history_end(e->history);
	if (e->locale)
		freelocale(e->locale);
	luaL_unref(L, LUA_REGISTRYINDEX, e->complete);
	*e = (struct lua_editor){ .complete = LUA_NOREF };
}

/* The user's; where that knows of ASCII alone, the one that every terminal speaks today. */
static locale_t terminal_locale(void)
{
	locale_t users = newlocale(LC_CTYPE_MASK, "", NULL);

	if (users && strcmp(nl_langinfo_l(CODESET, users), "ANSI_X3.4-1968") != 0)
		return users;

	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);

	if (!utf8)
		return users;
	if (users)
		freelocale(users);
	return utf8;
}

static bool create(struct lua_editor *e, int history_size)
{
	e->locale = terminal_locale();
	if (!e->locale)
		return false;

	locale_t before = uselocale(e->locale);

	e->history = history_init();
	e->el = e->history ? el_init("ktstr", stdin, stdout, stderr) : NULL;
	if (e->el)
		configure(e, history_size);
	uselocale(before);
	return e->el;
}

static int core_editor(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);

	int history_size = (int)bind_field_number(L, 1, "history", 1, 1e6);
	struct lua_editor *e = lua_newuserdata(L, sizeof(*e));

	*e = (struct lua_editor){ .complete = LUA_NOREF };
	luaL_getmetatable(L, editor_metatable);
	lua_setmetatable(L, -2);
	lua_getfield(L, 1, "complete");
	if (lua_isnil(L, -1))
		lua_pop(L, 1);
	else
		e->complete = luaL_ref(L, LUA_REGISTRYINDEX);
	if (!create(e, history_size))
		bind_raise(L, error_create(ERROR_OS, "the terminal cannot be edited on"));
	return 1;
}

static int editor_add(lua_State *L)
{
	struct lua_editor *e = check(L);
	const char *line = luaL_checkstring(L, 2);
	locale_t before = uselocale(e->locale);
	HistEvent event;

	history(e->history, &event, H_ENTER, line);
	uselocale(before);
	return 0;
}

static int push_nothing(lua_State *L, const char *why)
{
	lua_pushnil(L);
	lua_pushstring(L, why);
	return 2;
}

static int editor_line(lua_State *L)
{
	struct lua_editor *e = check(L);
	int size = 0;

	e->prompt = luaL_checkstring(L, 2);
	e->L = L;
	e->interrupted = false;
	fflush(stdout);

	locale_t before = uselocale(e->locale);

	el_resize(e->el); // nobody tells it of a change while a command runs
	el_set(e->el, EL_PREP_TERM, 1); // before the prompt: what is typed when that is seen is ours

	const char *line = el_gets(e->el, &size);

	uselocale(before);
	e->L = NULL;
	if (e->interrupted) {
		fputs("^C\n", stdout);
		if (!interrupt_take_back())
			bind_raise(L, interrupt_error());
		return push_nothing(L, "interrupt");
	}
	if (!line) {
		fputc('\n', stdout);
		return push_nothing(L, "eof");
	}
	if (size > 0 && line[size - 1] == '\n')
		size--;
	lua_pushlstring(L, line, (size_t)size);
	return 1;
}

static int editor_close(lua_State *L)
{
	destroy(L, luaL_checkudata(L, 1, editor_metatable));
	return 0;
}

void bind_editor(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "line", editor_line },
		{ "add", editor_add },
		{ "close", editor_close },
		{ NULL, NULL },
	};

	luaL_newmetatable(L, editor_metatable);
	lua_pushcfunction(L, editor_close);
	lua_setfield(L, -2, "__gc");
	lua_newtable(L);
	luaL_register(L, NULL, methods);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	lua_pushcfunction(L, core_editor);
	lua_setfield(L, -2, "editor");
}
