// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "kernel/types_internal.h"

enum {
	MAX_LINES = 100000, /* a struct may have the same anonymous one in very many ways */
	MAX_TEXT = 8 << 20, /* bytes */
	COMMENT_COLUMN = 56,
	CACHE_LINE = 64, /* bytes; x86's */
};

struct definition {
	const struct types *t;
	struct buf *out;
	u32 lines; /* so far */
	u64 cache_line; /* of the last boundary that was told */
};

/* What of one struct is in no member. */
struct gaps {
	u64 end; /* bits, of the members so far */
	u32 holes;
	u64 bits;
};

static struct error *define_members(struct definition *d, u32 id, u64 base, u32 depth);

static void put_tabs(struct definition *d, u32 depth)
{
	while (depth--)
		buf_put_u8(d->out, '\t');
}

static struct error *new_line(struct definition *d)
{
	if (++d->lines > MAX_LINES || d->out->size > MAX_TEXT)
		return error_create(ERROR_UNSUPPORTED, "the definition is longer than %u lines or %u bytes",
				    MAX_LINES, MAX_TEXT);
	return NULL;
}

/* From the line's begin on, tabs counted. */
static void pad_comment(struct definition *d, size_t line)
{
	u32 column = 0;

	for (size_t i = line; i < d->out->size; i++)
		column = d->out->data[i] == '\t' ? ALIGN_UP(column + 1, 8U) : column + 1;
	do
		buf_put_u8(d->out, ' ');
	while (++column < COMMENT_COLUMN);
}

/* Offset and size of a bit-field are those of the unit that it is in, as pahole has it. */
static void put_place(struct definition *d, const struct type_member *m, u64 offset, size_t line)
{
	u64 size = types_size(d->t, m->type);

	pad_comment(d, line);
	if (m->bits && size) {
		u64 unit = offset / (size * 8) * size;

		types_print(d->out, "/* %5llu:%2llu %5llu */\n", (unsigned long long)unit,
			    (unsigned long long)(offset - unit * 8), (unsigned long long)size);
	} else {
		types_print(d->out, "/* %5llu %8llu */\n", (unsigned long long)(offset / 8),
			    (unsigned long long)size);
	}
}

static void put_boundary(struct definition *d, u64 offset, u32 depth)
{
	u64 line = offset / 8 / CACHE_LINE, was = offset / 8 % CACHE_LINE, begin = offset / 8 - was;

	if (line <= d->cache_line)
		return;
	d->cache_line = line;
	put_tabs(d, depth);
	types_print(d->out, "/* --- cacheline %llu boundary (%llu bytes)", (unsigned long long)line,
		    (unsigned long long)begin);
	if (was)
		types_print(d->out, " was %llu bytes ago", (unsigned long long)was);
	types_print(d->out, " --- */\n");
}

static void put_hole(struct definition *d, struct gaps *g, u64 to, u32 depth)
{
	u64 bits = to - g->end;

	g->holes++;
	g->bits += bits;
	put_tabs(d, depth);
	if (bits % 8)
		types_print(d->out, "/* XXX %llu bits hole */\n", (unsigned long long)bits);
	else
		types_print(d->out, "/* XXX %llu bytes hole */\n", (unsigned long long)(bits / 8));
}

/* The anonymous struct, union or enum that is only defined here; 0: none. Through arrays, as in "struct {} x[2]". */
static u32 inline_definition(const struct types *t, u32 id)
{
	for (;;) {
		u32 kind = types_kind(t, id);

		if (kind == BTF_KIND_ARRAY)
			id = ((const struct btf_array *)btf_type_extra(types_at(t, id)))->type;
		else if (btf_kind_is_qualifier(kind))
			id = types_at(t, id)->type;
		else
			return (kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION) && !*types_own_name(t, id) ? id :
														0;
	}
}

/* "struct {", its members, "} name[2];" */
static struct error *define_inline(struct definition *d, const struct type_member *m, u32 inner, u64 offset,
				   u32 depth)
{
	struct buf declared = BUF_INIT;

	types_print(d->out, "%s {\n", types_kind(d->t, inner) == BTF_KIND_UNION ? "union" : "struct");

	struct error *err = define_members(d, inner, offset, depth + 1);

	if (!err)
		err = new_line(d);
	if (!err)
		err = types_declare(d->t, m->type, m->name, &declared);
	if (err) {
		buf_deinit(&declared);
		return err;
	}

	size_t line = d->out->size;

	/* "struct {...} name[2]", of which the end is wanted. */
	buf_put_u8(&declared, 0);
	err = buf_check(&declared);
	if (!err) {
		const char *rest = strstr((char *)declared.data, "{...}");

		put_tabs(d, depth);
		types_print(d->out, "}%s;", rest ? rest + strlen("{...}") : "");
		put_place(d, m, offset, line);
	}
	buf_deinit(&declared);
	return err;
}

static struct error *define_member(struct definition *d, const struct type_member *m, u64 offset, u32 depth)
{
	u32 inner = inline_definition(d->t, m->type);
	size_t line = d->out->size;
	struct error *err = new_line(d);

	if (err)
		return err;
	put_tabs(d, depth);
	if (inner)
		return define_inline(d, m, inner, offset, depth);
	err = types_declare(d->t, m->type, m->name, d->out);
	if (err)
		return err;
	if (m->bits)
		types_print(d->out, ":%u", m->bits);
	types_print(d->out, ";");
	put_place(d, m, offset, line);
	return NULL;
}

/* base: bits before the struct that has them. */
static struct error *define_members(struct definition *d, u32 id, u64 base, u32 depth)
{
	const struct btf_type *type = types_at(d->t, id);
	bool ordered = btf_type_kind(type) != BTF_KIND_UNION;
	struct gaps gaps = { 0 };

	for (u32 i = 0; i < btf_type_count(type); i++) {
		struct type_member m;
		struct error *err = types_get_member(d->t, id, i, &m);

		if (err)
			return err;
		if (ordered && m.offset > gaps.end)
			put_hole(d, &gaps, m.offset, depth);
		if (ordered)
			put_boundary(d, base + m.offset, depth);
		err = define_member(d, &m, base + m.offset, depth);
		if (err)
			return err;

		u64 end = m.offset + (m.bits ?: types_size(d->t, m.type) * 8);

		if (end > gaps.end)
			gaps.end = end;
	}

	u64 padding = ordered && (u64)type->size * 8 > gaps.end ? (u64)type->size * 8 - gaps.end : 0;

	if (depth > 1) {
		if (padding)
			put_hole(d, &gaps, (u64)type->size * 8, depth);
		return NULL;
	}
	types_print(d->out, "\n\t/* size: %u, cachelines: %u, members: %u */\n", type->size,
		    (type->size + CACHE_LINE - 1) / CACHE_LINE, btf_type_count(type));
	if (gaps.holes)
		types_print(d->out, "\t/* holes: %u, sum holes: %llu bytes %llu bits */\n", gaps.holes,
			    (unsigned long long)(gaps.bits / 8), (unsigned long long)(gaps.bits % 8));
	if (padding)
		types_print(d->out, "\t/* padding: %llu bytes %llu bits */\n", (unsigned long long)(padding / 8),
			    (unsigned long long)(padding % 8));
	return NULL;
}

static struct error *define_values(struct definition *d, u32 id)
{
	struct type_info info;
	struct error *err = types_info(d->t, id, &info);

	for (u32 i = 0; i < info.count && !err; i++) {
		const char *name;
		s64 value;

		err = new_line(d);
		if (!err)
			err = types_get_value(d->t, id, i, &name, &value);
		if (err)
			break;
		if (info.flags & TYPE_SIGNED)
			types_print(d->out, "\t%s = %lld,\n", name, (long long)value);
		else
			types_print(d->out, "\t%s = %llu,\n", name, (unsigned long long)value);
	}
	if (!err)
		types_print(d->out, "\n\t/* size: %llu, values: %u */\n", (unsigned long long)info.size,
			    info.count);
	return err;
}

static const char *opening(const struct btf_type *type)
{
	switch (btf_type_kind(type)) {
	case BTF_KIND_STRUCT:
		return "struct";
	case BTF_KIND_UNION:
		return "union";
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return "enum";
	case BTF_KIND_DATASEC:
		return "section";
	}
	return NULL;
}

/* The braces and what is in them. */
static struct error *define_body(struct definition *d, u32 id)
{
	const struct btf_type *type = types_at(d->t, id);
	const char *name = types_own_name(d->t, id);

	types_print(d->out, "%s%s%s {\n", opening(type), *name ? " " : "", name);

	struct error *err = types_is_composite(btf_type_kind(type)) ? define_members(d, id, 0, 1) :
								      define_values(d, id);

	types_print(d->out, "}");
	return err;
}

/* "typedef struct {...} name", or "typedef unsigned int name" with its size. */
static struct error *define_typedef(struct definition *d, u32 id)
{
	const struct btf_type *type = types_at(d->t, id);
	const char *name = types_own_name(d->t, id);
	u32 of = type->type;
	struct error *err;

	types_print(d->out, "typedef ");
	if (opening(types_at(d->t, of)) && !*types_own_name(d->t, of)) {
		err = define_body(d, of);
		types_print(d->out, " %s;\n", name);
		return err;
	}
	err = types_declare(d->t, of, name, d->out);
	types_print(d->out, ";\n\n/* size: %llu */\n", (unsigned long long)types_size(d->t, of));
	return err;
}

static struct error *define(struct definition *d, u32 id)
{
	const struct btf_type *type = types_at(d->t, id);
	struct error *err;

	if (types_kind(d->t, id) == BTF_KIND_TYPEDEF)
		return define_typedef(d, id);
	if (opening(type)) {
		err = define_body(d, id);
		types_print(d->out, ";\n");
		return err;
	}
	err = types_name(d->t, id, d->out);
	types_print(d->out, ";\n\n/* size: %llu */\n", (unsigned long long)types_size(d->t, id));
	return err;
}

struct error *types_define(const struct types *t, u32 id, struct buf *out)
{
	struct error *err = types_check_id(t, id);
	struct buf text = BUF_INIT;
	struct definition d = { .t = t, .out = &text };

	if (err)
		return err;
	err = define(&d, id);
	if (!err)
		err = buf_check(&text);
	if (!err)
		buf_put(out, text.data, text.size);
	buf_deinit(&text);
	return err ?: buf_check(out);
}
