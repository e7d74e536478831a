/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BTF made by hand, type by type, and one blob that has every kind.
 * Depends on base and <linux/btf.h>. Nothing of core/kernel takes part in it.
 * Every step that fails aborts: a test's own blob is never in doubt.
 */
#ifndef TESTS_CORE_BTF_BUILDER_H
#define TESTS_CORE_BTF_BUILDER_H

#include <linux/btf.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct btf_builder {
	struct buf types, strings;
	u32 next; /* id */
	u32 first_string;
};

/* For a split: one past its base's last id, and the bytes of its base's strings. */
static inline void btf_start(struct btf_builder *b, u32 first_id, u32 first_string)
{
	*b = (struct btf_builder){ .next = first_id, .first_string = first_string };
	if (!first_string)
		buf_put_u8(&b->strings, 0);
}

static inline u32 btf_text(struct btf_builder *b, const char *s)
{
	u32 offset = b->first_string + b->strings.size;

	if (!*s)
		return 0;
	buf_put(&b->strings, s, strlen(s) + 1);
	return offset;
}

static inline u32 btf_type(struct btf_builder *b, const char *name, u32 kind, u32 count, bool flag,
			   u32 size_or_type)
{
	buf_put_u32(&b->types, btf_text(b, name));
	buf_put_u32(&b->types, (u32)flag << 31 | kind << 24 | count);
	buf_put_u32(&b->types, size_or_type);
	return b->next++;
}

static inline u32 btf_int(struct btf_builder *b, const char *name, u32 size, u32 encoding)
{
	u32 id = btf_type(b, name, BTF_KIND_INT, 0, false, size);

	buf_put_u32(&b->types, encoding << 24 | size * 8);
	return id;
}

/* A pointer, a qualifier or a typedef. */
static inline u32 btf_to(struct btf_builder *b, u32 kind, const char *name, u32 target)
{
	return btf_type(b, name, kind, 0, false, target);
}

static inline u32 btf_pointer(struct btf_builder *b, u32 target)
{
	return btf_to(b, BTF_KIND_PTR, "", target);
}

static inline u32 btf_array(struct btf_builder *b, u32 element, u32 index, u32 count)
{
	u32 id = btf_type(b, "", BTF_KIND_ARRAY, 0, false, 0);

	buf_put_u32(&b->types, element);
	buf_put_u32(&b->types, index);
	buf_put_u32(&b->types, count);
	return id;
}

/* count of btf_member() follow. flag: offsets have the bits of bit-fields in them. */
static inline u32 btf_struct(struct btf_builder *b, u32 kind, const char *name, u32 size, u32 count, bool flag)
{
	return btf_type(b, name, kind, count, flag, size);
}

/* Also a variable of a section (name is its id then), and a value of an enum64. */
static inline void btf_three(struct btf_builder *b, u32 x, u32 y, u32 z)
{
	buf_put_u32(&b->types, x);
	buf_put_u32(&b->types, y);
	buf_put_u32(&b->types, z);
}

static inline void btf_member(struct btf_builder *b, const char *name, u32 type, u32 bit_offset)
{
	btf_three(b, btf_text(b, name), type, bit_offset);
}

static inline void btf_bits(struct btf_builder *b, const char *name, u32 type, u32 bit_offset, u32 bits)
{
	btf_three(b, btf_text(b, name), type, bits << 24 | bit_offset);
}

/* Of an enum; also a parameter: its name and type. */
static inline void btf_value(struct btf_builder *b, const char *name, u32 value)
{
	buf_put_u32(&b->types, btf_text(b, name));
	buf_put_u32(&b->types, value);
}

static inline void btf_value64(struct btf_builder *b, const char *name, u64 value)
{
	btf_three(b, btf_text(b, name), (u32)value, value >> 32);
}

/* The blob; the builder is empty afterwards. */
static inline struct buf btf_finish(struct btf_builder *b)
{
	struct buf blob = BUF_INIT;

	buf_put_u16(&blob, BTF_MAGIC);
	buf_put_u8(&blob, BTF_VERSION);
	buf_put_u8(&blob, 0);
	buf_put_u32(&blob, sizeof(struct btf_header));
	buf_put_u32(&blob, 0);
	buf_put_u32(&blob, b->types.size);
	buf_put_u32(&blob, b->types.size);
	buf_put_u32(&blob, b->strings.size);
	buf_put(&blob, b->types.data, b->types.size);
	buf_put(&blob, b->strings.data, b->strings.size);
	if (blob.failed || b->types.failed || b->strings.failed)
		abort();
	buf_deinit(&b->types);
	buf_deinit(&b->strings);
	return blob;
}

/* The ids of a blob with every kind. */
struct every {
	u32 integer, character, boolean, unsigned_long, real, void_pointer, u64_type, name_array, list,
		list_pointer;
	u32 const_char, const_string, const_pointer, other, other_pointer, callback, callback_pointer, inner,
		choice;
	u32 thing, thing_pointer, colour, wide, work_type, work, counter, section, percpu_tag, percpu_pointer;
	u32 user_pointer, volatile_int, restrict_pointer, decl_tag, old_bits, old, table, end;
	u32 strings_size;
};

static inline void build_scalars(struct btf_builder *b, struct every *e)
{
	e->integer = btf_int(b, "int", 4, BTF_INT_SIGNED);
	e->character = btf_int(b, "char", 1, BTF_INT_SIGNED);
	e->boolean = btf_int(b, "_Bool", 1, BTF_INT_BOOL);
	e->unsigned_long = btf_int(b, "long unsigned int", 8, 0);
	e->real = btf_type(b, "double", BTF_KIND_FLOAT, 0, false, 8);
	e->void_pointer = btf_pointer(b, 0);
	e->u64_type = btf_to(b, BTF_KIND_TYPEDEF, "u64", e->unsigned_long);
	e->name_array = btf_array(b, e->character, e->integer, 16);
	e->const_char = btf_to(b, BTF_KIND_CONST, "", e->character);
	e->const_string = btf_pointer(b, e->const_char);
	e->const_pointer = btf_to(b, BTF_KIND_CONST, "", e->const_string);
	e->volatile_int = btf_to(b, BTF_KIND_VOLATILE, "", e->integer);
	e->restrict_pointer = btf_to(b, BTF_KIND_RESTRICT, "", e->void_pointer);
	e->colour = btf_type(b, "colour", BTF_KIND_ENUM, 3, true, 4);
	btf_value(b, "RED", 0);
	btf_value(b, "GREEN", 5);
	btf_value(b, "NO_COLOUR", (u32)-1);
	e->wide = btf_type(b, "wide", BTF_KIND_ENUM64, 2, false, 8);
	btf_value64(b, "WIDE_LOW", 7);
	btf_value64(b, "WIDE_HIGH", 0xfedcba9876543210);
}

/* struct thing: a hole, bit-fields, nameless members, a function pointer, a flexible array. */
static inline void build_structs(struct btf_builder *b, struct every *e)
{
	e->list = btf_struct(b, BTF_KIND_STRUCT, "list", 8, 1, false);
	btf_member(b, "next", e->list + 1, 0);
	e->list_pointer = btf_pointer(b, e->list);
	e->other = btf_type(b, "other", BTF_KIND_FWD, 0, false, 0);
	e->other_pointer = btf_pointer(b, e->other);
	e->callback = btf_type(b, "", BTF_KIND_FUNC_PROTO, 3, false, e->integer);
	btf_value(b, "arg", e->void_pointer);
	btf_value(b, "", e->const_string);
	btf_value(b, "", 0);
	e->callback_pointer = btf_pointer(b, e->callback);
	e->inner = btf_struct(b, BTF_KIND_STRUCT, "", 4, 2, false);
	btf_member(b, "low", e->character, 0);
	btf_member(b, "high", e->character, 8);
	e->choice = btf_struct(b, BTF_KIND_UNION, "", 4, 2, false);
	btf_member(b, "whole", e->integer, 0);
	btf_member(b, "", e->inner, 0);
	e->table = btf_array(b, e->u64_type, e->integer, 0);
	e->thing = btf_struct(b, BTF_KIND_STRUCT, "thing", 72, 11, true);
	btf_member(b, "a", e->integer, 0);
	btf_member(b, "b", e->u64_type, 64);
	btf_bits(b, "ready", e->integer, 128, 3);
	btf_bits(b, "hue", e->colour, 131, 5);
	btf_member(b, "", e->choice, 160);
	btf_member(b, "next", e->other_pointer, 192);
	btf_member(b, "call", e->callback_pointer, 256);
	btf_member(b, "name", e->name_array, 320);
	btf_member(b, "links", e->list, 448);
	btf_member(b, "truth", e->boolean, 512);
	btf_member(b, "tail", e->table, 576);
	e->thing_pointer = btf_pointer(b, e->thing);
	/* Bit-fields as they were before the flag: by the integer. */
	e->old_bits = btf_type(b, "unsigned int", BTF_KIND_INT, 0, false, 4);
	buf_put_u32(&b->types, 5);
	e->old = btf_struct(b, BTF_KIND_STRUCT, "old", 4, 2, false);
	btf_member(b, "first", e->old_bits, 0);
	btf_member(b, "second", e->old_bits, 5);
}

static inline void build_others(struct btf_builder *b, struct every *e)
{
	e->work_type = btf_type(b, "", BTF_KIND_FUNC_PROTO, 1, false, 0);
	btf_value(b, "thing", e->thing_pointer);
	e->work = btf_type(b, "work", BTF_KIND_FUNC, BTF_FUNC_GLOBAL, false, e->work_type);
	e->counter = btf_type(b, "counter", BTF_KIND_VAR, 0, false, e->u64_type);
	buf_put_u32(&b->types, BTF_VAR_GLOBAL_ALLOCATED);
	e->section = btf_type(b, ".data", BTF_KIND_DATASEC, 1, false, 32);
	btf_three(b, e->counter, 16, 8);
	e->decl_tag = btf_type(b, "handle with care", BTF_KIND_DECL_TAG, 0, false, e->thing);
	buf_put_u32(&b->types, 1);
	e->percpu_tag = btf_to(b, BTF_KIND_TYPE_TAG, "percpu", e->thing);
	e->percpu_pointer = btf_pointer(b, e->percpu_tag);
	e->user_pointer = btf_pointer(b, btf_to(b, BTF_KIND_TYPE_TAG, "user", e->const_char));
}

static inline struct buf build_every_kind(struct every *e)
{
	struct btf_builder b;

	btf_start(&b, 1, 0);
	build_scalars(&b, e);
	build_structs(&b, e);
	build_others(&b, e);
	e->end = b.next;
	e->strings_size = b.strings.size;
	return btf_finish(&b);
}

/* What goes on with that blob. */
struct split {
	u32 part, part_pointer, mode, start_type, start, end;
};

static inline struct buf build_split(const struct every *e, struct split *s)
{
	struct btf_builder b;

	btf_start(&b, e->end, e->strings_size);
	s->part = btf_struct(&b, BTF_KIND_STRUCT, "part", 88, 2, false);
	btf_member(&b, "whole", e->thing, 0);
	btf_member(&b, "mode", e->end + 2, 576);
	s->part_pointer = btf_pointer(&b, s->part);
	s->mode = btf_type(&b, "mode", BTF_KIND_ENUM, 2, false, 4);
	btf_value(&b, "MODE_OFF", 0);
	btf_value(&b, "MODE_ON", 0xffffffff);
	s->start_type = btf_type(&b, "", BTF_KIND_FUNC_PROTO, 1, false, e->integer);
	btf_value(&b, "part", s->part_pointer);
	s->start = btf_type(&b, "start", BTF_KIND_FUNC, BTF_FUNC_STATIC, false, s->start_type);
	/* It defines what the base only declares. */
	btf_struct(&b, BTF_KIND_STRUCT, "other", 8, 1, false);
	btf_member(&b, "part", s->part_pointer, 0);
	s->end = b.next;
	return btf_finish(&b);
}

#endif
