// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernel/types_internal.h"

/*
 * A declaration in C is read from its name outwards, and so it is written: a declarator grows around the name, with
 * "*" in front and "[16]" or "(void *)" behind, until a type with a name of its own ends it.
 *
 * libbpf's printer gives ambiguous structs other names ("foo___2") and follows anonymous structs into each other
 * without end, so this one is ours.
 */
struct declaration {
	const struct types *t;
	u32 steps; /* left: prototypes may have prototypes as parameters in very many ways */
};

enum {
	MAX_STEPS = 4096,
	MAX_DECLARATION = 64 << 10, /* bytes */
};

void types_print(struct buf *out, const char *fmt, ...)
{
	char text[BTF_MAX_NAME + 256];
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n >= (int)sizeof(text))
		n = sizeof(text) - 1;
	if (n > 0)
		buf_put(out, text, n);
}

static void put_string(struct buf *out, const char *s)
{
	buf_put(out, s, strlen(s));
}

/* text before what is in b. */
static void put_before(struct buf *b, const char *text)
{
	size_t n = strlen(text);

	buf_put_zero(b, n);
	if (!n || b->failed)
		return;
	memmove(b->data + n, b->data, b->size - n);
	memcpy(b->data, text, n);
}

static const char *qualifier_name(u32 kind)
{
	switch (kind) {
	case BTF_KIND_CONST:
		return "const ";
	case BTF_KIND_VOLATILE:
		return "volatile ";
	case BTF_KIND_RESTRICT:
		return "restrict ";
	}
	return ""; /* tags are not written */
}

static u32 skip_qualifiers(const struct types *t, u32 id)
{
	while (btf_kind_is_qualifier(types_kind(t, id)))
		id = types_at(t, id)->type;
	return id;
}

static struct error *declare(struct declaration *d, u32 id, struct buf *declarator, struct buf *out);

static struct error *put_parameters(struct declaration *d, const struct btf_type *prototype, struct buf *out)
{
	const struct btf_param *params = btf_type_extra(prototype);
	u32 count = btf_type_count(prototype);
	struct error *err = NULL;

	put_string(out, count ? "(" : "(void");
	for (u32 i = 0; i < count && !err; i++) {
		struct buf name = BUF_INIT;

		put_string(out, i ? ", " : "");
		if (!params[i].type) {
			put_string(out, "...");
			continue;
		}
		put_string(&name, types_string(d->t, params[i].name_off));
		err = declare(d, params[i].type, &name, out);
		buf_deinit(&name);
	}
	put_string(out, ")");
	return err;
}

static const char *keyword(const struct btf_type *type)
{
	switch (btf_type_kind(type)) {
	case BTF_KIND_STRUCT:
		return "struct ";
	case BTF_KIND_UNION:
		return "union ";
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return "enum ";
	case BTF_KIND_FWD:
		return BTF_INFO_KFLAG(type->info) ? "union " : "struct ";
	case BTF_KIND_DATASEC:
		return "section ";
	}
	return "";
}

/* What ends a declaration: a type with a name, or one that could have one. */
static void put_base(const struct types *t, u32 id, const char *qualifiers, const struct buf *declarator,
		     struct buf *out)
{
	const char *name = types_own_name(t, id);

	put_string(out, qualifiers);
	put_string(out, keyword(types_at(t, id)));
	put_string(out, *name ? name : "{...}");
	if (declarator->size)
		put_string(out, " ");
	buf_put(out, declarator->data, declarator->size);
}

/* "*" in front, and brackets around where what follows goes behind the name. */
static void add_star(const struct types *t, u32 target, struct buf *declarator)
{
	u32 of = types_kind(t, skip_qualifiers(t, target));

	put_before(declarator, "*");
	if (of != BTF_KIND_ARRAY && of != BTF_KIND_FUNC_PROTO)
		return;
	put_before(declarator, "(");
	put_string(declarator, ")");
}

/* Qualifiers gather until what they qualify is known: a pointer has them behind its star, all else in front. */
static struct error *declare(struct declaration *d, u32 id, struct buf *declarator, struct buf *out)
{
	char qualifiers[64] = "";
	struct error *err;

	for (;;) {
		const struct btf_type *type = types_at(d->t, id);
		const struct btf_array *array;
		const char *qualifier;

		if (!d->steps-- || declarator->size + out->size > MAX_DECLARATION) {
			d->steps = 0;
			return error_create(ERROR_UNSUPPORTED, "the type is too long to be written");
		}
		switch (types_kind(d->t, id)) {
		case BTF_KIND_PTR:
			if (*qualifiers && !declarator->size)
				qualifiers[strlen(qualifiers) - 1] = 0; /* no blank at the end */
			put_before(declarator, qualifiers);
			qualifiers[0] = 0;
			add_star(d->t, type->type, declarator);
			id = type->type;
			continue;
		case BTF_KIND_CONST:
		case BTF_KIND_VOLATILE:
		case BTF_KIND_RESTRICT:
		case BTF_KIND_TYPE_TAG:
			qualifier = qualifier_name(btf_type_kind(type));
			if (!strstr(qualifiers, qualifier))
				strcat(qualifiers, qualifier);
			id = type->type;
			continue;
		case BTF_KIND_ARRAY:
			array = btf_type_extra(type);
			types_print(declarator, "[%u]", array->nelems);
			id = array->type;
			continue;
		case BTF_KIND_FUNC_PROTO:
			err = put_parameters(d, type, declarator);
			if (err)
				return err;
			id = type->type;
			continue;
		}
		put_base(d->t, id, qualifiers, declarator, out);
		return NULL;
	}
}

struct error *types_declare(const struct types *t, u32 id, const char *name, struct buf *out)
{
	struct declaration d = { .t = t, .steps = MAX_STEPS };
	struct buf text = BUF_INIT, declarator = BUF_INIT;

	put_string(&declarator, name);

	struct error *err = declare(&d, id, &declarator, &text);

	if (!err)
		err = buf_check(&declarator);
	if (!err)
		buf_put(out, text.data, text.size);
	if (!err)
		err = buf_check(&text);
	buf_deinit(&declarator);
	buf_deinit(&text);
	return err ?: buf_check(out);
}

struct error *types_name(const struct types *t, u32 id, struct buf *out)
{
	struct error *err = types_check_id(t, id);

	if (err)
		return err;

	const struct btf_type *type = types_at(t, id);

	switch (types_kind(t, id)) {
	case BTF_KIND_DECL_TAG:
		return error_create(ERROR_INVALID, "type %u is a tag, not a type", id);
	case BTF_KIND_FUNC:
	case BTF_KIND_VAR:
		return types_declare(t, type->type, types_string(t, type->name_off), out);
	}
	return types_declare(t, id, "", out);
}
