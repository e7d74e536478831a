// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "kernel/types_internal.h"

/* What the type tags between a pointer and its target say. Those with the flag are other attributes. */
static u32 pointer_flags(const struct types *t, u32 target)
{
	u32 flags = 0;

	for (; btf_kind_is_qualifier(types_kind(t, target)); target = types_at(t, target)->type) {
		const struct btf_type *type = types_at(t, target);
		const char *tag = types_string(t, type->name_off);

		if (btf_type_kind(type) != BTF_KIND_TYPE_TAG || BTF_INFO_KFLAG(type->info))
			continue;
		if (!strcmp(tag, "percpu"))
			flags |= TYPE_PERCPU;
		if (!strcmp(tag, "user"))
			flags |= TYPE_USER;
	}
	return flags;
}

static u32 int_flags(const struct btf_type *type, const char *name)
{
	u32 encoding = BTF_INT_ENCODING(*(const u32 *)btf_type_extra(type));
	u32 flags = 0;

	if (encoding & BTF_INT_SIGNED)
		flags |= TYPE_SIGNED;
	if (encoding & BTF_INT_BOOL)
		flags |= TYPE_BOOL;
	if (encoding & BTF_INT_CHAR || (type->size == 1 && !strcmp(name, "char")))
		flags |= TYPE_CHAR;
	return flags;
}

static bool tells_sign(const struct btf_bytes *b, u32 id)
{
	const struct btf_type *type = btf_bytes_type(b, id);
	u32 kind = btf_type_kind(type);

	return kind == BTF_KIND_ENUM64 || (kind == BTF_KIND_ENUM && BTF_INFO_KFLAG(type->info));
}

bool types_tell_signs(const struct btf_bytes *b)
{
	for (u32 id = b->first; id < b->end; id++)
		if (tells_sign(b, id))
			return true;
	return false;
}

/*
 * BTF from before the flag has enums whose values tell: they are signed when one is below zero. Where other enums have
 * the flag, such a value is one from 2^31 on.
 */
static u32 enum_flags(const struct types *t, const struct btf_type *type)
{
	const struct btf_enum *values = btf_type_extra(type);

	if (BTF_INFO_KFLAG(type->info))
		return TYPE_SIGNED;
	if (btf_type_kind(type) == BTF_KIND_ENUM && !t->tell_signs)
		for (u32 i = 0; i < btf_type_count(type); i++)
			if (values[i].val < 0)
				return TYPE_SIGNED;
	return 0;
}

static void fill_info(const struct types *t, const struct btf_type *type, struct type_info *ret)
{
	const struct btf_array *array = btf_type_extra(type);

	switch (btf_type_kind(type)) {
	case BTF_KIND_INT:
		ret->kind = TYPE_INT;
		ret->flags = int_flags(type, ret->name);
		break;
	case BTF_KIND_FLOAT:
		ret->kind = TYPE_FLOAT;
		break;
	case BTF_KIND_PTR:
		ret->kind = TYPE_POINTER;
		ret->target = type->type;
		ret->flags = pointer_flags(t, type->type);
		break;
	case BTF_KIND_ARRAY:
		ret->kind = TYPE_ARRAY;
		ret->target = array->type;
		ret->count = array->nelems;
		break;
	case BTF_KIND_UNION:
		ret->kind = TYPE_UNION;
		ret->count = btf_type_count(type);
		break;
	case BTF_KIND_STRUCT:
	case BTF_KIND_DATASEC:
		ret->kind = TYPE_STRUCT;
		ret->count = btf_type_count(type);
		break;
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		ret->kind = TYPE_ENUM;
		ret->flags = enum_flags(t, type);
		ret->count = btf_type_count(type);
		break;
	case BTF_KIND_FWD:
		ret->kind = TYPE_FORWARD;
		break;
	case BTF_KIND_FUNC_PROTO:
		ret->kind = TYPE_FUNCTION;
		ret->target = type->type;
		ret->count = btf_type_count(type);
		break;
	case BTF_KIND_VAR:
		ret->kind = TYPE_VARIABLE;
		ret->target = type->type;
		ret->size = types_size(t, type->type);
		break;
	}
}

/* A function is its prototype with a name. */
static u32 prototype_of(const struct types *t, u32 id)
{
	return types_kind(t, id) == BTF_KIND_FUNC ? types_at(t, id)->type : id;
}

struct error *types_info(const struct types *t, u32 id, struct type_info *ret)
{
	struct error *err = types_check_id(t, id);

	if (err)
		return err;
	id = types_resolve(t, id);
	*ret = (struct type_info){
		.id = id, .kind = TYPE_VOID, .size = types_size(t, id), .name = types_own_name(t, id)
	};
	if (types_kind(t, id) == BTF_KIND_DECL_TAG)
		return error_create(ERROR_INVALID, "type %u is a tag, not a type", id);
	if (id)
		fill_info(t, types_at(t, prototype_of(t, id)), ret);
	return NULL;
}

/* The type behind id, when it is of one of those kinds and has a part of that index. */
static struct error *find_part(const struct types *t, u32 id, u32 index, u32 kinds, const char *part,
			       const struct btf_type **ret)
{
	struct error *err = types_check_id(t, id);

	if (err)
		return err;
	id = prototype_of(t, types_resolve(t, id));
	if (!(kinds & 1U << types_kind(t, id)))
		return error_create(ERROR_INVALID, "type %u is a %s and has no %ss", id,
				    btf_kind_name(types_kind(t, id)), part);
	*ret = types_at(t, id);
	if (index >= btf_type_count(*ret))
		return error_create(ERROR_INVALID, "type %u has no %s %u, it has %u", id, part, index,
				    btf_type_count(*ret));
	return NULL;
}

/* A section is a struct of its variables. */
static void fill_variable(const struct types *t, const struct btf_var_secinfo *info, struct type_member *ret)
{
	const struct btf_type *variable = types_at(t, info->type);

	*ret = (struct type_member){
		.name = types_string(t, variable->name_off),
		.type = variable->type,
		.offset = (u64)info->offset * 8,
	};
}

struct error *types_get_member(const struct types *t, u32 id, u32 index, struct type_member *ret)
{
	const struct btf_type *type = &btf_void;
	struct error *err = find_part(
		t, id, index, 1 << BTF_KIND_STRUCT | 1 << BTF_KIND_UNION | 1 << BTF_KIND_DATASEC, "member", &type);

	if (err)
		return err;
	if (btf_type_kind(type) == BTF_KIND_DATASEC) {
		fill_variable(t, (const struct btf_var_secinfo *)btf_type_extra(type) + index, ret);
		return NULL;
	}

	const struct btf_member *member = (const struct btf_member *)btf_type_extra(type) + index;
	u32 offset, bits;

	btf_bytes_member(&t->bytes, type, member, &offset, &bits);
	*ret = (struct type_member){
		.name = types_string(t, member->name_off),
		.type = member->type,
		.offset = offset,
		.bits = bits,
	};
	return NULL;
}

struct error *types_get_value(const struct types *t, u32 id, u32 index, const char **name, s64 *value)
{
	const struct btf_type *type = &btf_void;
	struct error *err = find_part(t, id, index, 1 << BTF_KIND_ENUM | 1 << BTF_KIND_ENUM64, "value", &type);

	if (err)
		return err;
	if (btf_type_kind(type) == BTF_KIND_ENUM64) {
		const struct btf_enum64 *v = (const struct btf_enum64 *)btf_type_extra(type) + index;

		*name = types_string(t, v->name_off);
		*value = (s64)((u64)v->val_hi32 << 32 | v->val_lo32);
	} else {
		const struct btf_enum *v = (const struct btf_enum *)btf_type_extra(type) + index;

		*name = types_string(t, v->name_off);
		*value = enum_flags(t, type) ? v->val : (s64)(u32)v->val;
	}
	return NULL;
}

struct error *types_get_parameter(const struct types *t, u32 id, u32 index, const char **name, u32 *type)
{
	const struct btf_type *prototype = &btf_void;
	struct error *err = find_part(t, id, index, 1 << BTF_KIND_FUNC_PROTO, "parameter", &prototype);

	if (err)
		return err;

	const struct btf_param *param = (const struct btf_param *)btf_type_extra(prototype) + index;

	*name = types_string(t, param->name_off);
	*type = param->type;
	return NULL;
}
