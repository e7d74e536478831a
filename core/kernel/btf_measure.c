// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/btf_parts.h"

#include <stdlib.h>

#include "base/cleanup.h"

/* One above the depth that was found; the two walks go along different references. */
enum { UNSEEN = 0,
       UNDER_WAY = 255 };

struct measure {
	u32 size;
	bool sized;
	u8 inside; /* how deep types are inside each other */
	u8 spelled; /* how deep its name in C is nested, up to what has a name of its own */
};

struct walk {
	const struct btf_bytes *b;
	struct measure *measures; /* by id; those of the base are made when they are needed */
};

/* --- what contains what --- */

static struct error *measure_type(const struct walk *w, u32 id, u32 depth);

static struct error *measure_array(const struct walk *w, u32 id, const struct btf_array *array, u32 depth)
{
	struct measure *m = &w->measures[id], *of = &w->measures[array->type];
	struct error *err = measure_type(w, array->type, depth + 1);

	if (err)
		return err;

	u64 size = (u64)of->size * array->nelems;

	if (size > UINT32_MAX)
		return btf_bad_type(w->b, id, "has %u elements of %u bytes", array->nelems, of->size);
	m->size = size;
	m->sized = of->sized;
	m->inside = of->inside;
	return NULL;
}

static struct error *check_bit_field(const struct walk *w, u32 id, u32 index, u32 of, u32 offset, u32 bits)
{
	u32 kind = btf_bytes_kind(w->b, btf_bytes_resolve(w->b, of));
	u32 struct_size = btf_bytes_type(w->b, id)->size;

	if (kind != BTF_KIND_INT && kind != BTF_KIND_ENUM && kind != BTF_KIND_ENUM64)
		return btf_bad_type(w->b, id, "has a bit-field of a %s: member %u", btf_kind_name(kind), index);
	if (bits > 64 || bits > w->measures[of].size * 8)
		return btf_bad_type(w->b, id, "has a bit-field of %u bits in %u bytes: member %u", bits,
				    w->measures[of].size, index);
	if ((u64)offset + bits > (u64)struct_size * 8)
		return btf_bad_type(w->b, id, "ends before its member %u: %u bits at bit %u, of %u bytes", index,
				    bits, offset, struct_size);
	return NULL;
}

static struct error *check_place(const struct walk *w, u32 id, u32 index, const struct btf_member *member)
{
	const struct btf_type *type = btf_bytes_type(w->b, id);
	const struct measure *of = &w->measures[member->type];
	u32 offset, bits;

	btf_bytes_member(w->b, type, member, &offset, &bits);
	if (!of->sized)
		return btf_bad_type(w->b, id, "has a member without a size: %u", index);
	if (btf_type_kind(type) == BTF_KIND_UNION && offset)
		return btf_bad_type(w->b, id, "has a member at bit %u: %u", offset, index);
	if (bits)
		return check_bit_field(w, id, index, member->type, offset, bits);
	if (offset % 8)
		return btf_bad_type(w->b, id, "has a member at bit %u: %u", offset, index);
	if ((u64)offset / 8 + of->size > type->size)
		return btf_bad_type(w->b, id, "ends before its member %u: %u bytes at %u, of %u", index, of->size,
				    offset / 8, type->size);
	return NULL;
}

static struct error *measure_members(const struct walk *w, u32 id, const struct btf_type *type, u32 depth)
{
	struct measure *m = &w->measures[id];
	const struct btf_member *members = btf_type_extra(type);
	u8 deepest = 0;

	for (u32 i = 0; i < btf_type_count(type); i++) {
		struct error *err = measure_type(w, members[i].type, depth + 1);

		if (!err)
			err = check_place(w, id, i, &members[i]);
		if (err)
			return err;
		if (w->measures[members[i].type].inside > deepest)
			deepest = w->measures[members[i].type].inside;
	}
	m->size = type->size;
	m->sized = true;
	m->inside = deepest;
	return NULL;
}

static struct error *measure_section(const struct walk *w, u32 id, const struct btf_type *type, u32 depth)
{
	const struct btf_var_secinfo *vars = btf_type_extra(type);

	for (u32 i = 0; i < btf_type_count(type); i++) {
		struct error *err = measure_type(w, vars[i].type, depth + 1);

		if (err)
			return err;
		if (w->measures[vars[i].type].size > vars[i].size)
			return btf_bad_type(w->b, id, "has %u bytes for its variable %u of %u", vars[i].size, i,
					    w->measures[vars[i].type].size);
	}
	return NULL;
}

/* Sets size, sized, and inside to the depth below it. */
static struct error *measure_kind(const struct walk *w, u32 id, u32 depth)
{
	struct measure *m = &w->measures[id];
	const struct btf_type *type = btf_bytes_type(w->b, id);
	struct error *err;

	m->inside = 0;
	switch (btf_bytes_kind(w->b, id)) {
	case BTF_KIND_INT:
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
	case BTF_KIND_FLOAT:
		m->size = type->size;
		m->sized = true;
		return NULL;
	case BTF_KIND_PTR:
		m->size = BTF_POINTER_SIZE;
		m->sized = true;
		return NULL;
	case BTF_KIND_ARRAY:
		m->inside = UNDER_WAY;
		return measure_array(w, id, btf_type_extra(type), depth);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		m->inside = UNDER_WAY;
		return measure_members(w, id, type, depth);
	case BTF_KIND_DATASEC:
		return measure_section(w, id, type, depth);
	case BTF_KIND_VAR:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_TYPE_TAG:
		m->inside = UNDER_WAY;
		err = measure_type(w, type->type, depth + 1);
		m->size = w->measures[type->type].size;
		m->sized = w->measures[type->type].sized;
		m->inside = w->measures[type->type].inside;
		return err;
	}
	return NULL; /* void, what is only declared, functions, and what is no type of a value */
}

static struct error *measure_type(const struct walk *w, u32 id, u32 depth)
{
	struct measure *m = &w->measures[id];

	if (m->inside == UNDER_WAY)
		return btf_bad_type(w->b, id, "contains itself");
	if (m->inside != UNSEEN)
		return NULL;
	if (depth >= BTF_MAX_DEPTH)
		return btf_bad_type(w->b, id, "is nested deeper than %u", BTF_MAX_DEPTH);

	struct error *err = measure_kind(w, id, depth);

	if (err)
		return err;
	if (++m->inside > BTF_MAX_DEPTH)
		return btf_bad_type(w->b, id, "has types nested deeper than %u in it", BTF_MAX_DEPTH);
	return NULL;
}

/* --- what is spelled with what --- */

static struct error *spell_type(const struct walk *w, u32 id, u32 depth);

/* Spells one part; *deepest follows. */
static struct error *spell_part(const struct walk *w, u32 id, u32 depth, u8 *deepest)
{
	struct error *err = spell_type(w, id, depth + 1);

	if (!err && w->measures[id].spelled > *deepest)
		*deepest = w->measures[id].spelled;
	return err;
}

static struct error *spell_kind(const struct walk *w, u32 id, u32 depth, u8 *deepest)
{
	const struct btf_type *type = btf_bytes_type(w->b, id);
	const struct btf_param *params;
	struct error *err;

	switch (btf_bytes_kind(w->b, id)) {
	case BTF_KIND_PTR:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_TYPE_TAG:
		return spell_part(w, type->type, depth, deepest);
	case BTF_KIND_ARRAY:
		return spell_part(w, ((const struct btf_array *)btf_type_extra(type))->type, depth, deepest);
	case BTF_KIND_FUNC_PROTO:
		params = btf_type_extra(type);
		err = spell_part(w, type->type, depth, deepest);
		for (u32 i = 0; i < btf_type_count(type) && !err; i++)
			err = spell_part(w, params[i].type, depth, deepest);
		return err;
	}
	return NULL; /* what has a name, or could have one, is spelled by it */
}

static struct error *spell_type(const struct walk *w, u32 id, u32 depth)
{
	struct measure *m = &w->measures[id];
	u8 deepest = 0;

	if (m->spelled == UNDER_WAY)
		return btf_bad_type(w->b, id, "is made of itself");
	if (m->spelled != UNSEEN)
		return NULL;
	if (depth >= BTF_MAX_DEPTH)
		return btf_bad_type(w->b, id, "is made of more than %u types in a row", BTF_MAX_DEPTH);
	m->spelled = UNDER_WAY;

	struct error *err = spell_kind(w, id, depth, &deepest);

	if (err)
		return err;
	if (deepest >= BTF_MAX_DEPTH)
		return btf_bad_type(w->b, id, "is made of more than %u types in a row", BTF_MAX_DEPTH);
	m->spelled = deepest + 1;
	return NULL;
}

struct error *btf_measure(const struct btf_bytes *b)
{
	CLEANUP_FREE struct measure *measures = calloc(b->end, sizeof(*measures));
	struct walk w = { .b = b, .measures = measures };
	struct error *err = NULL;

	if (!measures)
		return error_no_memory();
	for (u32 id = b->first; id < b->end && !err; id++) {
		err = measure_type(&w, id, 0);
		if (!err)
			err = spell_type(&w, id, 0);
	}
	return err;
}
