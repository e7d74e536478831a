// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/btf_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "kernel/btf_parts.h"

#define BIT(n) (1U << (n))

/* What has a size, or what something with a size may be behind. */
#define QUALIFIERS (BIT(BTF_KIND_VOLATILE) | BIT(BTF_KIND_CONST) | BIT(BTF_KIND_RESTRICT) | BIT(BTF_KIND_TYPE_TAG))
#define VALUES                                                                                   \
	(BIT(BTF_KIND_INT) | BIT(BTF_KIND_PTR) | BIT(BTF_KIND_ARRAY) | BIT(BTF_KIND_STRUCT) |    \
	 BIT(BTF_KIND_UNION) | BIT(BTF_KIND_ENUM) | BIT(BTF_KIND_ENUM64) | BIT(BTF_KIND_FLOAT) | \
	 BIT(BTF_KIND_TYPEDEF) | QUALIFIERS)
#define VOID BIT(BTF_KIND_UNKN)
#define ANYTHING (VALUES | VOID | BIT(BTF_KIND_FWD) | BIT(BTF_KIND_FUNC_PROTO))
#define TAGGED                                                                                 \
	(BIT(BTF_KIND_STRUCT) | BIT(BTF_KIND_UNION) | BIT(BTF_KIND_FUNC) | BIT(BTF_KIND_VAR) | \
	 BIT(BTF_KIND_TYPEDEF))

enum naming { NAMELESS,
	      MAY_HAVE_NAME,
	      NAMED };

/* What the bytes of a kind look like. */
struct kind_rule {
	const char *name;
	enum naming naming;
	u8 fixed; /* bytes behind the struct btf_type */
	u8 each; /* and for each of its count; 0: there is none */
	bool flag; /* the kind flag means something */
	u32 target; /* kinds that .type may refer to; 0: it is a size, or nothing */
};

static const struct kind_rule rules[] = {
	[BTF_KIND_UNKN] = { .name = "void" },
	[BTF_KIND_INT] = { .name = "int", NAMED, .fixed = 4 },
	[BTF_KIND_PTR] = { .name = "pointer", NAMELESS, .target = ANYTHING },
	[BTF_KIND_ARRAY] = { .name = "array", NAMELESS, .fixed = sizeof(struct btf_array) },
	[BTF_KIND_STRUCT] = { .name = "struct", MAY_HAVE_NAME, .each = sizeof(struct btf_member), .flag = true },
	[BTF_KIND_UNION] = { .name = "union", MAY_HAVE_NAME, .each = sizeof(struct btf_member), .flag = true },
	[BTF_KIND_ENUM] = { .name = "enum", MAY_HAVE_NAME, .each = sizeof(struct btf_enum), .flag = true },
	[BTF_KIND_FWD] = { .name = "forward", NAMED, .flag = true },
	[BTF_KIND_TYPEDEF] = { .name = "typedef", NAMED, .target = ANYTHING },
	[BTF_KIND_VOLATILE] = { .name = "volatile", NAMELESS, .target = ANYTHING },
	[BTF_KIND_CONST] = { .name = "const", NAMELESS, .target = ANYTHING },
	[BTF_KIND_RESTRICT] = { .name = "restrict", NAMELESS, .target = ANYTHING },
	[BTF_KIND_FUNC] = { .name = "function", NAMED, .target = BIT(BTF_KIND_FUNC_PROTO) },
	[BTF_KIND_FUNC_PROTO] = { .name = "prototype",
				  NAMELESS,
				  .each = sizeof(struct btf_param),
				  .target = ANYTHING & ~BIT(BTF_KIND_FUNC_PROTO) },
	[BTF_KIND_VAR] = { .name = "variable",
			   NAMED,
			   .fixed = sizeof(struct btf_var),
			   .target = VALUES | VOID | BIT(BTF_KIND_FWD) },
	[BTF_KIND_DATASEC] = { .name = "section", NAMED, .each = sizeof(struct btf_var_secinfo) },
	[BTF_KIND_FLOAT] = { .name = "float", NAMED },
	[BTF_KIND_DECL_TAG] = { .name = "decl tag",
				NAMED,
				.fixed = sizeof(struct btf_decl_tag),
				.flag = true,
				.target = TAGGED },
	[BTF_KIND_TYPE_TAG] = { .name = "type tag", NAMED, .flag = true, .target = ANYTHING },
	[BTF_KIND_ENUM64] = { .name = "enum64", MAY_HAVE_NAME, .each = sizeof(struct btf_enum64), .flag = true },
};

const struct btf_type btf_void;

struct check {
	struct btf_bytes *b;
	u32 *offsets; /* of the types found so far */
	u32 capacity;
	u32 strings_end; /* one past the last name offset */
};

const char *btf_kind_name(u32 kind)
{
	return kind < ARRAY_SIZE(rules) ? rules[kind].name : "unknown";
}

struct error *btf_bad_type(const struct btf_bytes *b, u32 id, const char *fmt, ...)
{
	char what[160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return error_create(ERROR_FORMAT, "BTF type %u (%s) %s", id, btf_kind_name(btf_bytes_kind(b, id)), what);
}

u32 btf_bytes_resolve(const struct btf_bytes *b, u32 id)
{
	while (id) {
		const struct btf_type *type = btf_bytes_type(b, id);
		u32 kind = btf_type_kind(type);

		if (kind != BTF_KIND_TYPEDEF && !btf_kind_is_qualifier(kind))
			break;
		id = type->type;
	}
	return id;
}

void btf_bytes_member(const struct btf_bytes *b, const struct btf_type *type, const struct btf_member *member,
		      u32 *offset, u32 *bits)
{
	*offset = member->offset;
	*bits = 0;
	if (BTF_INFO_KFLAG(type->info)) {
		*offset = BTF_MEMBER_BIT_OFFSET(member->offset);
		*bits = BTF_MEMBER_BITFIELD_SIZE(member->offset);
		return;
	}

	/* Without the flag a bit-field has an integer type of its own, with fewer bits than its bytes have. */
	const struct btf_type *of;
	u32 id = btf_bytes_resolve(b, member->type);

	if (btf_bytes_kind(b, id) != BTF_KIND_INT)
		return;
	of = btf_bytes_type(b, id);

	u32 data = *(const u32 *)btf_type_extra(of);

	if (BTF_INT_OFFSET(data) || BTF_INT_BITS(data) != of->size * 8) {
		*offset += BTF_INT_OFFSET(data);
		*bits = BTF_INT_BITS(data);
	}
}

/* --- the types one by one --- */

static struct error *check_name(const struct check *c, u32 id, u32 offset, enum naming naming, const char *whose)
{
	if (offset >= c->strings_end)
		return btf_bad_type(c->b, id, "has %s name outside the strings: %u of %u", whose, offset,
				    c->strings_end);

	const char *name = btf_bytes_name(c->b, offset);

	if (naming == NAMED && !*name)
		return btf_bad_type(c->b, id, "has %s name that is empty", whose);
	if (naming == NAMELESS && offset)
		return btf_bad_type(c->b, id, "has a name");
	if (c->b->odd_strings && !btf_is_name(name))
		return btf_bad_type(c->b, id, "has %s name with control characters, or of more than %u", whose,
				    BTF_MAX_NAME);
	return NULL;
}

static struct error *add_offset(struct check *c, u32 offset)
{
	if (c->b->end > BTF_MAX_TYPE)
		return error_create(ERROR_UNSUPPORTED, "BTF with more than %u types", BTF_MAX_TYPE);

	u32 index = c->b->end - c->b->first;

	if (index == c->capacity) {
		u32 capacity = c->capacity ? c->capacity * 2 : c->b->types_size / 24 + 8;
		u32 *offsets = realloc(c->offsets, capacity * sizeof(u32));

		if (!offsets)
			return error_no_memory();
		c->offsets = offsets;
		c->capacity = capacity;
		c->b->offsets = offsets;
	}
	c->offsets[index] = offset;
	c->b->end++;
	return NULL;
}

/* Bytes that the type at offset takes, once they are known to be there. */
static struct error *type_length(const struct check *c, u32 id, u32 offset, u32 *ret)
{
	u32 left = c->b->types_size - offset;
	const struct btf_type *type = (const void *)(c->b->types + offset);

	if (left < sizeof(*type))
		return error_create(ERROR_FORMAT, "BTF type %u is cut short: %u bytes of %zu", id, left,
				    sizeof(*type));

	u32 kind = btf_type_kind(type);

	if (kind == BTF_KIND_UNKN)
		return error_create(ERROR_FORMAT, "BTF type %u has kind 0", id);
	if (kind >= ARRAY_SIZE(rules) || type->info & 0x60ff0000)
		return error_create(ERROR_UNSUPPORTED,
				    "BTF type %u has kind %u and info 0x%08x; kinds to %zu are known", id, kind,
				    type->info, ARRAY_SIZE(rules) - 1);

	u32 length = sizeof(*type) + rules[kind].fixed + rules[kind].each * btf_type_count(type);

	if (left < length)
		return error_create(ERROR_FORMAT, "BTF type %u (%s) is cut short: %u bytes of %u", id,
				    rules[kind].name, left, length);
	*ret = length;
	return NULL;
}

static struct error *find_types(struct check *c)
{
	u32 offset = 0;

	while (offset < c->b->types_size) {
		u32 length = 0;
		struct error *err = type_length(c, c->b->end, offset, &length);

		if (!err)
			err = add_offset(c, offset);
		if (err)
			return err;
		offset += length;
	}
	return NULL;
}

/* One reference: to a type that there is, and of a kind that makes sense there. */
static struct error *check_reference(const struct check *c, u32 id, u32 target, u32 kinds, const char *what)
{
	if (target >= c->b->end)
		return btf_bad_type(c->b, id, "refers to type %u of %u", target, c->b->end);

	u32 kind = btf_bytes_kind(c->b, target);

	if (!(kinds & BIT(kind)))
		return btf_bad_type(c->b, id, "has type %u (%s) for %s", target, btf_kind_name(kind), what);
	return NULL;
}

static struct error *check_int(const struct check *c, u32 id, const struct btf_type *type)
{
	u32 data = *(const u32 *)btf_type_extra(type);
	u32 encoding = BTF_INT_ENCODING(data), bits = BTF_INT_BITS(data);

	if (!type->size || type->size > 16 || type->size & (type->size - 1))
		return btf_bad_type(c->b, id, "has %u bytes", type->size);
	if (data & 0xf0000000 || encoding & (encoding - 1) || encoding > BTF_INT_BOOL)
		return btf_bad_type(c->b, id, "has encoding 0x%x", data >> 24);
	if (!bits || BTF_INT_OFFSET(data) + bits > type->size * 8)
		return btf_bad_type(c->b, id, "has bits %u to %u in %u bytes", BTF_INT_OFFSET(data),
				    BTF_INT_OFFSET(data) + bits, type->size);
	return NULL;
}

static struct error *check_array(const struct check *c, u32 id, const struct btf_type *type)
{
	const struct btf_array *array = btf_type_extra(type);
	struct error *err = check_reference(c, id, array->type, VALUES | BIT(BTF_KIND_FWD), "its elements");

	if (type->size && !err)
		err = btf_bad_type(c->b, id, "has a size field of %u", type->size);
	return err ?: check_reference(c, id, array->index_type, VALUES, "its index");
}

static struct error *check_members(const struct check *c, u32 id, const struct btf_type *type)
{
	const struct btf_member *members = btf_type_extra(type);
	struct error *err = NULL;

	for (u32 i = 0; i < btf_type_count(type) && !err; i++) {
		err = check_name(c, id, members[i].name_off, MAY_HAVE_NAME, "a member's");
		if (!err)
			err = check_reference(c, id, members[i].type, VALUES, "a member");
	}
	return err;
}

static struct error *check_values(const struct check *c, u32 id, const struct btf_type *type)
{
	const u8 *values = btf_type_extra(type);
	u32 each = rules[btf_type_kind(type)].each;
	struct error *err = NULL;

	if (!type->size || type->size > 8 || type->size & (type->size - 1))
		return btf_bad_type(c->b, id, "has %u bytes", type->size);
	/* Both kinds of values begin with the name. */
	for (u32 i = 0; i < btf_type_count(type) && !err; i++)
		err = check_name(c, id, *(const u32 *)(values + i * each), NAMED, "a value's");
	return err;
}

static struct error *check_parameters(const struct check *c, u32 id, const struct btf_type *type)
{
	const struct btf_param *params = btf_type_extra(type);
	u32 count = btf_type_count(type);
	struct error *err = NULL;

	for (u32 i = 0; i < count && !err; i++) {
		bool dots = i == count - 1 && !params[i].type && !params[i].name_off;

		err = check_name(c, id, params[i].name_off, MAY_HAVE_NAME, "a parameter's");
		if (!err && !dots)
			err = check_reference(c, id, params[i].type, VALUES | BIT(BTF_KIND_FWD), "a parameter");
	}
	return err;
}

static struct error *check_section(const struct check *c, u32 id, const struct btf_type *type)
{
	const struct btf_var_secinfo *vars = btf_type_extra(type);
	struct error *err = NULL;

	for (u32 i = 0; i < btf_type_count(type) && !err; i++) {
		err = check_reference(c, id, vars[i].type, BIT(BTF_KIND_VAR), "a variable");
		if (!err && (u64)vars[i].offset + vars[i].size > type->size)
			err = btf_bad_type(c->b, id, "ends before its variable %u: %u bytes at %u, of %u", i,
					   vars[i].size, vars[i].offset, type->size);
	}
	return err;
}

static struct error *check_decl_tag(const struct check *c, u32 id, const struct btf_type *type)
{
	s32 index = ((const struct btf_decl_tag *)btf_type_extra(type))->component_idx;
	const struct btf_type *target = btf_bytes_type(c->b, type->type);
	u32 kind = btf_type_kind(target);
	u32 count = btf_type_count(target);

	if (index == -1)
		return NULL;
	if (kind == BTF_KIND_FUNC) {
		struct error *err = check_reference(c, id, target->type, BIT(BTF_KIND_FUNC_PROTO), "its function");

		if (err)
			return err;
		count = btf_type_count(btf_bytes_type(c->b, target->type));
	} else if (kind != BTF_KIND_STRUCT && kind != BTF_KIND_UNION) {
		count = 0;
	}
	if (index < 0 || (u32)index >= count)
		return btf_bad_type(c->b, id, "tags part %d of %u", index, count);
	return NULL;
}

static struct error *check_details(const struct check *c, u32 id, const struct btf_type *type)
{
	switch (btf_type_kind(type)) {
	case BTF_KIND_INT:
		return check_int(c, id, type);
	case BTF_KIND_ARRAY:
		return check_array(c, id, type);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return check_members(c, id, type);
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return check_values(c, id, type);
	case BTF_KIND_FWD:
		return type->type ? btf_bad_type(c->b, id, "refers to type %u", type->type) : NULL;
	case BTF_KIND_FUNC_PROTO:
		return check_parameters(c, id, type);
	case BTF_KIND_VAR:
		return *(const u32 *)btf_type_extra(type) > BTF_VAR_GLOBAL_EXTERN ?
			       btf_bad_type(c->b, id, "has an unknown linkage") :
			       NULL;
	case BTF_KIND_DATASEC:
		return check_section(c, id, type);
	case BTF_KIND_FLOAT:
		return type->size < 2 || type->size > 16 || type->size % 2 ?
			       btf_bad_type(c->b, id, "has %u bytes", type->size) :
			       NULL;
	case BTF_KIND_DECL_TAG:
		return check_decl_tag(c, id, type);
	}
	return NULL;
}

static struct error *check_type(const struct check *c, u32 id)
{
	const struct btf_type *type = btf_bytes_type(c->b, id);
	const struct kind_rule *rule = &rules[btf_type_kind(type)];
	u32 count = btf_type_count(type);
	struct error *err = check_name(c, id, type->name_off, rule->naming, "a");

	if (err)
		return err;
	if (BTF_INFO_KFLAG(type->info) && !rule->flag)
		return btf_bad_type(c->b, id, "has a kind flag");
	/* A function's count is its linkage. */
	if (count > (btf_type_kind(type) == BTF_KIND_FUNC ? BTF_FUNC_EXTERN : 0U) && !rule->each)
		return btf_bad_type(c->b, id, "has a count of %u", count);
	if (rule->target)
		err = check_reference(c, id, type->type, rule->target, "its target");
	return err ?: check_details(c, id, type);
}

struct error *btf_check(const void *data, size_t size, const struct btf_bytes *base, struct btf_bytes *ret,
			u32 **offsets)
{
	struct error *err = btf_check_header(data, size, base, ret);

	if (err)
		return err;

	struct check c = {
		.b = ret,
		.strings_end = ret->first_string + ret->strings_size,
	};

	ret->first = ret->end = base ? base->end : 1;
	err = find_types(&c);
	for (u32 id = ret->first; id < ret->end && !err; id++)
		err = check_type(&c, id);
	if (!err)
		err = btf_measure(ret);
	if (err) {
		free(c.offsets);
		return err;
	}
	*offsets = c.offsets;
	return NULL;
}
