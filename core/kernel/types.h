/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Types by BTF: the kernel's, and split ones (a module's, a BPF program's) that go on where the kernel's end.
 * Depends on base and libbpf. Every byte of a blob is checked before libbpf sees it: damage is an ERROR_FORMAT.
 * A set never changes once it is made; it outlives the splits made upon it.
 */
#ifndef KERNEL_TYPES_H
#define KERNEL_TYPES_H

#include "base/buf.h"
#include "base/error.h"
#include "base/types.h"

struct types;

enum type_kind {
	TYPE_VOID,
	TYPE_INT, /* integers, chars and bools */
	TYPE_FLOAT,
	TYPE_POINTER,
	TYPE_ARRAY,
	TYPE_STRUCT,
	TYPE_UNION,
	TYPE_ENUM, /* of any size up to 8 bytes */
	TYPE_FORWARD, /* declared only */
	TYPE_FUNCTION, /* a prototype; a function has that of its type */
	TYPE_VARIABLE, /* by types_find_variable() alone */
};

enum type_flags {
	TYPE_SIGNED = 1 << 0, /* integer or enum */
	TYPE_BOOL = 1 << 1,
	TYPE_CHAR = 1 << 2, /* an integer of one byte, called char by its type */
	TYPE_PERCPU = 1 << 3, /* a pointer with the type tag "percpu" */
	TYPE_USER = 1 << 4, /* likewise "user" */
};

/* What is behind the typedefs and qualifiers of an id. */
struct type_info {
	u32 id; /* its own: that of the struct, not of the typedef */
	enum type_kind kind;
	u32 flags;
	u64 size; /* bytes; of a flexible array 0 */
	u32 target; /* what a pointer points to, an array's elements, a variable's type, a function's return type */
	u32 count; /* elements of an array, members of a struct, values of an enum, parameters of a function */
	const char *name; /* "" for an anonymous one; the set's */
};

struct type_member {
	const char *name; /* "" for an anonymous struct or union */
	u32 type;
	u64 offset; /* bits from the struct's first */
	u32 bits; /* of a bit-field, else 0 */
};

/*
 * base: NULL for the kernel's own. blob is not kept. ERROR_FORMAT names what is wrong and where.
 * From an image: types_create_image() finds .BTF in it; ERROR_NOT_FOUND: built without.
 */
MUST_CHECK struct error *types_create(const void *blob, size_t size, const struct types *base, struct types **ret);
struct kernel_image;
MUST_CHECK struct error *types_create_image(const struct kernel_image *image, struct types **ret);
void types_destroy(struct types *t);

u32 types_first(const struct types *t); /* id of its own first type: 1, or behind its base's */
u32 types_end(const struct types *t); /* one past the last id */

/*
 * The definitions of that name: "struct rq", "union x", "enum x", a typedef's or a basic type's "u64", "atomic_t",
 * in the base's types too. Pointers and arrays: "struct task_struct *", "char[16]" get their id by types_parse().
 * Writes up to max ids, returns how many there are: more than one is ambiguous.
 */
u32 types_find(const struct types *t, const char *name, u32 *ids, u32 max);
/* Names at or after prefix, for completion: calls each(name, id, arg) until it is false. */
void types_each_from(const struct types *t, const char *prefix, bool (*each)(const char *name, u32 id, void *arg),
		     void *arg);
/* A global variable (BTF has per-CPU ones) or function: its type's id, 0 when there is none. */
u32 types_find_variable(const struct types *t, const char *name);
u32 types_find_function(const struct types *t, const char *name);

/* ERROR_INVALID: no such id. Follows typedefs, const, volatile, restrict and tags, a bounded number of them. */
MUST_CHECK struct error *types_info(const struct types *t, u32 id, struct type_info *ret);
/* index below info.count. */
MUST_CHECK struct error *types_get_member(const struct types *t, u32 id, u32 index, struct type_member *ret);
/*
 * By name, also inside anonymous members: the offset is from the outermost struct. ERROR_NOT_FOUND lists the members
 * that there are (the message is for a person: nearest names first, at most twenty).
 */
MUST_CHECK struct error *types_find_member(const struct types *t, u32 id, const char *name,
					   struct type_member *ret);
/* An enum's value by index. */
MUST_CHECK struct error *types_get_value(const struct types *t, u32 id, u32 index, const char **name, s64 *value);
/* A name of any enum, as in "TASK_DEAD" or "BPF_MAP_TYPE_HASH". ERROR_NOT_FOUND; ERROR_INVALID when values differ. */
MUST_CHECK struct error *types_find_value(const struct types *t, const char *name, u32 *type, s64 *value);
/* A function's parameter by index: name ("" when it has none) and type. */
MUST_CHECK struct error *types_get_parameter(const struct types *t, u32 id, u32 index, const char **name, u32 *type);

/* A type as C writes it: "struct rq *", "char [16]", "int (*)(void *)". Of any id, typedefs kept. */
MUST_CHECK struct error *types_name(const struct types *t, u32 id, struct buf *out);
/* Its definition with offsets and sizes, one member a line, as pahole prints it. */
MUST_CHECK struct error *types_define(const struct types *t, u32 id, struct buf *out);

#endif
