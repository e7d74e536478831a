// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "kernel/nearest.h"
#include "kernel/types_internal.h"

/*
 * Steps of one search: a struct may have the same nameless member in many ways, and those again, so that all of them
 * cannot be visited. No kernel's comes near.
 */
enum { MAX_STEPS = 1 << 20 };

struct search {
	const struct types *t;
	const char *name; /* NULL: offer all */
	struct nearest *near;
	u32 steps;
	bool found;
	struct type_member member;
};

/* id: a struct or union, or a section, resolved; offset: where it is in the outermost one. */
static struct error *search_in(struct search *s, u32 id, u64 offset)
{
	u32 count = btf_type_count(types_at(s->t, id));

	for (u32 i = 0; i < count && !s->found; i++) {
		struct type_member m;
		struct error *err = types_get_member(s->t, id, i, &m);

		if (err)
			return err;
		if (++s->steps > MAX_STEPS)
			return error_create(ERROR_UNSUPPORTED, "type %u has more than %u members in its members",
					    id, MAX_STEPS);
		m.offset += offset;

		u32 of = types_resolve(s->t, m.type);

		if (!*m.name && types_is_composite(types_kind(s->t, of))) {
			err = search_in(s, of, m.offset);
			if (err)
				return err;
		} else if (!s->name) {
			nearest_offer(s->near, m.name);
		} else if (!strcmp(m.name, s->name)) {
			s->member = m;
			s->found = true;
		}
	}
	return NULL;
}

static struct error *describe_missing(const struct types *t, u32 id, const char *name, const struct nearest *near)
{
	struct buf text = BUF_INIT;
	struct error *err = types_name(t, id, &text);

	if (err) {
		buf_deinit(&text);
		return err;
	}
	types_print(&text, " has no member '%.*s'", NEAREST_MAX, name);
	for (u32 i = 0; i < near->count; i++)
		types_print(&text, "%s%s", i ? ", " : "; it has ", near->names[i]);
	if (near->offered > near->count)
		types_print(&text, " and %u more", near->offered - near->count);
	buf_put_u8(&text, 0);
	err = buf_check(&text) ?: error_create(ERROR_NOT_FOUND, "%s", (char *)text.data);
	buf_deinit(&text);
	return nearest_is_guess(near) ? error_with_hint(err, "did you mean '%s'?", near->names[0]) : err;
}

struct error *types_find_member(const struct types *t, u32 id, const char *name, struct type_member *ret)
{
	struct search s = { .t = t, .name = name };
	struct error *err = types_check_id(t, id);

	if (err)
		return err;
	id = types_resolve(t, id);
	if (!types_is_composite(types_kind(t, id)))
		return error_create(ERROR_INVALID, "type %u is a %s and has no members", id,
				    btf_kind_name(types_kind(t, id)));
	if (*name)
		err = search_in(&s, id, 0);
	if (err || s.found) {
		*ret = s.member;
		return err;
	}

	struct nearest near;

	nearest_init(&near, name);
	s = (struct search){ .t = t, .near = &near };
	err = search_in(&s, id, 0);
	return err ?: describe_missing(t, id, name, &near);
}
