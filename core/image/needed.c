// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/needed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/dynamic.h"
#include "image/ldcache.h"

enum {
	CACHE_MAX = 64 << 20,
	OBJECTS_MAX = 4096, /* a closure larger than that is no program */
};

static const char cache_path[] = "/etc/ld.so.cache";

/* In glibc's order, for the layouts of Debian and of the others. */
static const char *const default_dirs[] = {
	"/lib/x86_64-linux-gnu",
	"/usr/lib/x86_64-linux-gnu",
	"/lib64",
	"/usr/lib64",
	"/lib",
	"/usr/lib",
};

/* What musl's loader has built in, and what Debian's package configures. */
static const char *const musl_dirs[] = {
	"/usr/local/lib/x86_64-linux-musl",
	"/lib/x86_64-linux-musl",
	"/usr/lib/x86_64-linux-musl",
	"/lib",
	"/usr/local/lib",
	"/usr/lib",
};

/* What $LIB stands for, depending on how glibc was built. */
static const char *const lib_dirs[] = { "lib/x86_64-linux-gnu", "lib64" };

/* One file of the closure. Objects refer to each other by index: the array moves as it grows. */
struct object {
	char *path; /* as it was found */
	char *origin; /* what $ORIGIN stands for in it */
	struct dynamic dynamic;
	size_t needed_by; /* index of the first object that asked for it; its own for the program */
};

struct search {
	struct object *objects; /* the program first */
	size_t count, capacity;
	u8 *cache;
	size_t cache_size;
};

static void search_release(struct search *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->objects[i].path);
		free(s->objects[i].origin);
		dynamic_deinit(&s->objects[i].dynamic);
	}
	free(s->objects);
	free(s->cache);
}

/* Without a cache the loader goes on to the default directories, and so does this. */
static struct error *read_cache(struct search *s)
{
	int CLEANUP_CLOSE fd = open(cache_path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > CACHE_MAX)
		return NULL;
	s->cache = malloc(st.st_size);
	if (!s->cache)
		return error_no_memory();

	ssize_t n = read(fd, s->cache, st.st_size);

	s->cache_size = n > 0 ? n : 0;
	return NULL;
}

/* The directory of path; NULL when memory is short. */
static char *dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == path)
		return strdup("/");
	return strndup(path, slash ? slash - path : 0);
}

/* Takes d in any case. */
static struct error *add_object(struct search *s, const char *path, size_t needed_by,
				struct dynamic *d)
{
	struct object o = { .path = strdup(path), .origin = dir_of(path), .dynamic = *d };

	*d = (struct dynamic){ 0 };
	o.needed_by = needed_by;
	if (s->count == s->capacity) {
		size_t capacity = s->capacity ? s->capacity * 2 : 16;
		struct object *objects = reallocarray(s->objects, capacity, sizeof(*objects));

		if (objects) {
			s->objects = objects;
			s->capacity = capacity;
		}
	}
	if (!o.path || !o.origin || s->count == s->capacity) {
		free(o.path);
		free(o.origin);
		dynamic_deinit(&o.dynamic);
		return error_no_memory();
	}
	s->objects[s->count++] = o;
	return NULL;
}

/*
 * musl's loader is its C library as well, whatever name a program was linked with: it takes these
 * to be itself, and knows nothing of glibc's cache and directories.
 */
static bool is_musl(const struct search *s)
{
	const char *interpreter = s->objects[0].dynamic.interpreter;

	return interpreter && strstr(interpreter, "/ld-musl-");
}

static bool is_musl_itself(const char *library)
{
	static const char *const names[] = {
		"c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet."
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strncmp(library, "lib", 3) &&
		    !strncmp(library + 3, names[i], strlen(names[i])))
			return true;
	return false;
}

/* A library of that name is there already: by the name it was found under, or the one in it. */
static bool is_loaded(const struct search *s, const char *library)
{
	for (size_t i = 1; i < s->count; i++) {
		const struct object *o = &s->objects[i];
		const char *base = strrchr(o->path, '/');

		if (!strcmp(o->path, library) || (base && !strcmp(base + 1, library)) ||
		    (o->dynamic.soname && !strcmp(o->dynamic.soname, library)))
			return true;
	}
	return false;
}

/* $NAME or ${NAME} at p: its length, else 0. */
static size_t token_length(const char *p, const char *name)
{
	size_t n = strlen(name);

	if (p[0] != '$')
		return 0;
	if (p[1] == '{')
		return !strncmp(p + 2, name, n) && p[2 + n] == '}' ? n + 3 : 0;
	return !strncmp(p + 1, name, n) ? n + 1 : 0;
}

/* len bytes of text with its tokens replaced. False: too long for a path. */
static bool expand(const char *text, size_t len, const char *origin, const char *lib,
		   char out[static PATH_MAX])
{
	const char *end = text + len;
	size_t n = 0;

	while (text < end) {
		const char *with = NULL;
		size_t token;

		if ((token = token_length(text, "ORIGIN")))
			with = origin;
		else if ((token = token_length(text, "LIB")))
			with = lib;
		else if ((token = token_length(text, "PLATFORM")))
			with = "x86_64";

		size_t add = with ? strlen(with) : 1;

		if (n + add >= PATH_MAX)
			return false;
		memcpy(out + n, with ? with : text, add);
		n += add;
		text += with ? token : 1;
	}
	out[n] = '\0';
	return true;
}

/* What looking for one library gave so far. */
struct candidate {
	const char *library;
	char path[PATH_MAX];
	struct dynamic dynamic;
	bool found;
	bool wrong_machine; /* one was passed over, as the loader does */
};

/* Tries c->path. A file that is missing, no ELF or for another machine is passed over. */
static struct error *try_path(struct candidate *c)
{
	struct error *err = dynamic_read(c->path, &c->dynamic);

	if (!err && c->dynamic.is_elf) {
		c->found = true;
		return NULL;
	}
	if (!err)
		return NULL;
	if (error_code(err) == ERROR_UNSUPPORTED)
		c->wrong_machine = true;
	if (error_code(err) == ERROR_NO_MEMORY || error_code(err) == ERROR_FORMAT)
		return err;
	error_destroy(err);
	return NULL;
}

static struct error *try_dir(struct candidate *c, const char *dir)
{
	int n = snprintf(c->path, sizeof(c->path), "%s/%s", dir, c->library);

	if (n < 0 || (size_t)n >= sizeof(c->path))
		return NULL;
	return try_path(c);
}

/* Directories, as RPATH and RUNPATH have them. Empty ones (the current one) do not count. */
static struct error *try_list(struct candidate *c, const char *list, const char *origin)
{
	while (list && *list && !c->found) {
		size_t len = strcspn(list, ":");

		for (size_t i = 0; len && i < ARRAY_SIZE(lib_dirs) && !c->found; i++) {
			char dir[PATH_MAX];

			if (!expand(list, len, origin, lib_dirs[i], dir))
				continue;

			struct error *err = try_dir(c, dir);

			if (err)
				return err;
			if (!memmem(list, len, "LIB", 3))
				break;
		}
		list += len + (list[len] == ':');
	}
	return NULL;
}

/*
 * RPATH of the object that needs it, then of those that it was loaded for, up to the program. An
 * object with a RUNPATH has no RPATH; one that needs the library and has a RUNPATH turns all of
 * them off.
 */
static struct error *try_rpaths(struct search *s, struct candidate *c, size_t who)
{
	if (s->objects[who].dynamic.runpath)
		return NULL;
	for (;;) {
		const struct object *o = &s->objects[who];

		if (!o->dynamic.runpath) {
			struct error *err = try_list(c, o->dynamic.rpath, o->origin);

			if (err || c->found)
				return err;
		}
		if (who == o->needed_by)
			return NULL;
		who = o->needed_by;
	}
}

static struct error *try_dirs(struct candidate *c, const char *const *dirs, size_t n)
{
	for (size_t i = 0; i < n && !c->found; i++) {
		struct error *err = try_dir(c, dirs[i]);

		if (err)
			return err;
	}
	return NULL;
}

static struct error *try_system(struct search *s, struct candidate *c)
{
	if (is_musl(s))
		return try_dirs(c, musl_dirs, ARRAY_SIZE(musl_dirs));

	const char *cached = ldcache_find(s->cache, s->cache_size, c->library);

	if (cached && strlen(cached) < sizeof(c->path)) {
		strcpy(c->path, cached);

		struct error *err = try_path(c);

		if (err || c->found)
			return err;
	}
	return try_dirs(c, default_dirs, ARRAY_SIZE(default_dirs));
}

static struct error *locate(struct search *s, struct candidate *c, size_t who)
{
	const struct object *o = &s->objects[who];
	struct error *err;

	if (strchr(c->library, '/')) {
		if (!expand(c->library, strlen(c->library), o->origin, lib_dirs[0], c->path))
			return NULL;
		return try_path(c);
	}
	err = try_rpaths(s, c, who);
	if (err || c->found)
		return err;
	err = try_list(c, o->dynamic.runpath, o->origin);
	if (err || c->found || o->dynamic.no_default_dirs)
		return err;
	return try_system(s, c);
}

static struct error *missing(const struct search *s, const struct candidate *c, size_t who,
			     const char *kind)
{
	struct error *err;

	if (c->wrong_machine)
		err = error_create(
			ERROR_UNSUPPORTED,
			"'%s', the %s that '%s' needs, is there for another machine only",
			c->library, kind, s->objects[who].path);
	else
		err = error_create(ERROR_NOT_FOUND, "'%s', the %s that '%s' needs, is not found",
				   c->library, kind, s->objects[who].path);
	return error_with_hint(err, "install it, or give a static program");
}

/* The library that the object numbered who asks for, unless it is there already. */
static struct error *need(struct search *s, const char *library, size_t who)
{
	struct candidate c = { .library = library };
	struct error *err;

	if (is_loaded(s, library) || (is_musl(s) && is_musl_itself(library)))
		return NULL;
	err = locate(s, &c, who);
	if (err)
		return error_with_context(err, "library of '%s'", s->objects[who].path);
	if (!c.found)
		return missing(s, &c, who, "library");
	if (s->count == OBJECTS_MAX) {
		dynamic_deinit(&c.dynamic);
		return error_create(ERROR_FORMAT, "'%s' needs more than %d libraries",
				    s->objects[0].path, OBJECTS_MAX);
	}
	return add_object(s, c.path, who, &c.dynamic);
}

static struct error *need_interpreter(struct search *s)
{
	const struct object *program = s->objects;
	struct candidate c = { 0 };
	struct error *err;

	if (!program || !program->dynamic.interpreter)
		return NULL;
	c.library = program->dynamic.interpreter;
	if (strlen(c.library) >= sizeof(c.path))
		return error_create(ERROR_FORMAT, "the interpreter of '%s' has too long a name",
				    s->objects[0].path);
	strcpy(c.path, c.library);
	err = try_path(&c);
	if (err)
		return err;
	if (!c.found)
		return missing(s, &c, 0, "interpreter");
	return add_object(s, c.path, 0, &c.dynamic);
}

/* Breadth first, as the loader does: what an object needs depends on what came before it. */
static struct error *find_closure(struct search *s)
{
	struct error *err = need_interpreter(s);

	for (size_t i = 0; i < s->count && !err; i++)
		for (size_t k = 0; k < s->objects[i].dynamic.needed_count && !err; k++)
			err = need(s, s->objects[i].dynamic.needed[k], i);
	return err;
}

static struct error *take_paths(struct search *s, struct needed *ret)
{
	if (s->count < 2)
		return NULL;
	ret->paths = calloc(s->count - 1, sizeof(*ret->paths));
	if (!ret->paths)
		return error_no_memory();
	ret->capacity = s->count - 1;
	for (size_t i = 1; i < s->count; i++)
		ret->paths[ret->count++] = no_free(s->objects[i].path);
	return NULL;
}

static void dynamic_release(struct dynamic *d)
{
	dynamic_deinit(d);
}

struct error *needed_find(const char *path, struct needed *ret)
{
	struct search CLEANUP(search_release) s = { 0 };
	struct dynamic CLEANUP(dynamic_release) d = { 0 };
	char CLEANUP_FREE *real = NULL;
	struct error *err = dynamic_read(path, &d);

	*ret = (struct needed){ 0 };
	if (err || !d.is_elf)
		return err;
	// The loader takes the program's own $ORIGIN from where the file really is.
	real = realpath(path, NULL);
	if (!real)
		return error_create_errno("cannot open '%s'", path);
	err = read_cache(&s);
	if (err)
		return err;
	err = add_object(&s, real, 0, &d);
	if (err)
		return err;
	err = find_closure(&s);
	return err ? err : take_paths(&s, ret);
}

void needed_deinit(struct needed *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->paths[i]);
	free(n->paths);
	*n = (struct needed){ 0 };
}
