/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads all that there is to know of a set of types, as one that a stranger wrote, and looks that it fits together.
 * Depends on kernel/types.h. CHECK(condition) is the includer's: an assertion, or abort().
 * Takes bounded time for a small blob, whatever it says.
 */
#ifndef TESTS_CORE_BTF_WALK_H
#define TESTS_CORE_BTF_WALK_H

#include <string.h>

#include "kernel/types.h"

enum { WALK_DEFINITIONS = 200 }; /* a hostile one may take tens of milliseconds */

/* Refused, and for a reason that is one. */
static inline void walk_refused(struct error *err, enum error_code code)
{
	CHECK(error_code(err) == code);
	error_destroy(err);
}

static inline void walk_members(const struct types *t, const struct type_info *info)
{
	for (u32 i = 0; i < info->count; i++) {
		struct type_member m, found;
		struct type_info of;
		struct error *err = types_get_member(t, info->id, i, &m);

		CHECK(!err);
		err = types_info(t, m.type, &of);
		CHECK(!err);
		CHECK(m.bits <= 64);
		CHECK(m.offset + (m.bits ?: of.size * 8) <= info->size * 8);
		if (!*m.name || i > 64)
			continue;
		err = types_find_member(t, info->id, m.name, &found);
		if (err)
			walk_refused(err, ERROR_UNSUPPORTED);
		else
			CHECK(!strcmp(found.name, m.name) && found.offset <= info->size * 8);
	}
}

static inline void walk_parts(const struct types *t, const struct type_info *info)
{
	const char *name;
	s64 value;
	u32 type;
	struct error *err;

	for (u32 i = 0; i < info->count && info->kind == TYPE_ENUM; i++) {
		err = types_get_value(t, info->id, i, &name, &value);
		CHECK(!err && *name);
		err = types_find_value(t, name, &type, &value);
		if (err)
			walk_refused(err, ERROR_INVALID);
	}
	for (u32 i = 0; i < info->count && info->kind == TYPE_FUNCTION; i++) {
		err = types_get_parameter(t, info->id, i, &name, &type);
		CHECK(!err && type < types_end(t));
	}
	if (info->kind == TYPE_STRUCT || info->kind == TYPE_UNION)
		walk_members(t, info);
	CHECK(info->target < types_end(t));
}

static inline void walk_text(const struct types *t, u32 id, bool define)
{
	struct buf text = BUF_INIT;
	struct error *err = types_name(t, id, &text);

	if (err)
		walk_refused(err, ERROR_UNSUPPORTED);
	else
		CHECK(text.size);
	if (define) {
		err = types_define(t, id, &text);
		if (err)
			walk_refused(err, ERROR_UNSUPPORTED);
	}
	buf_deinit(&text);
}

static inline void walk_type(const struct types *t, u32 id, bool define)
{
	struct type_info info;
	struct error *err = types_info(t, id, &info);

	if (err) {
		walk_refused(err, ERROR_INVALID);
		return;
	}
	CHECK(info.id < types_end(t));
	walk_parts(t, &info);
	walk_text(t, id, define);
}

static inline bool walk_name(const char *name, u32 id, void *arg)
{
	const struct types *t = arg;
	u32 ids[2];

	CHECK(id < types_end(t));
	/* A stranger's name may read as that of something else. */
	types_find(t, name, ids, ARRAY_SIZE(ids));
	return true;
}

static inline void walk_types(const struct types *t)
{
	for (u32 id = 0; id < types_end(t); id++)
		walk_type(t, id, id < WALK_DEFINITIONS);
	types_each_from(t, "", walk_name, (void *)t);
}

#endif
