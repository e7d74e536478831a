/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Types by BTF: the kernel's, and split ones (a module's, a BPF program's) that go on where the kernel's end.
 * Depends on base, image, libelf and libbpf. All of a blob is checked before libbpf sees it: damage is an error.
 * A set never changes once it is made, so any number of threads may use it; it outlives the splits made upon it.
 *
 * Whatever a blob says, an accepted one can be read without a crash or a hang. libbpf reads each blob too and has to
 * find the same types at the same places. It is not asked for a type by name, which takes it a walk over all, nor for
 * printing (its printer renames what is ambiguous). Its reading takes 2 to 4 ms for a kernel, so a set from
 * types_open() goes without, until a split is put upon it.
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
	TYPE_STRUCT, /* also a section of variables, such as ".bss": they are its members */
	TYPE_UNION,
	TYPE_ENUM, /* of any size up to 8 bytes */
	TYPE_FORWARD, /* declared only */
	TYPE_FUNCTION, /* a prototype; a function has that of its type */
	TYPE_VARIABLE, /* the id of a variable itself, which no function here gives */
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
 * ERROR_UNSUPPORTED: of another byte order, or with kinds of types that are newer than this. ERROR_INVALID: base is
 * itself a split. From an image: types_create_image() finds .BTF in it; ERROR_NOT_FOUND: built without.
 */
MUST_CHECK struct error *types_create(const void *blob, size_t size, const struct types *base, struct types **ret);
struct kernel_image;
MUST_CHECK struct error *types_create_image(const struct kernel_image *image, struct types **ret);
void types_destroy(struct types *t); /* NULL is allowed */

/*
 * The same through a file of one's own (a cache): what types_write() wrote from the file's begin on, mapped and its
 * checksum looked at, takes a tenth of the time. Not of a split (ERROR_INVALID). ERROR_FORMAT: not such a file, of
 * another version or user, cut short or damaged. The file is not to be changed while the set is used: replace it.
 */
MUST_CHECK struct error *types_open(int fd, struct types **ret);
MUST_CHECK struct error *types_write(const struct types *t, int fd);

u32 types_first(const struct types *t); /* id of its own first type: 1, or behind its base's */
u32 types_end(const struct types *t); /* one past the last id */

/*
 * The definitions of that name: "struct rq", "union x", "enum x", a typedef's or a basic type's "u64", "atomic_t",
 * "unsigned long" in any of C's spellings, "void" (id 0), a section's ".bss"; in the base's types too. Pointers and
 * arrays get their id by types_parse(). What is only declared counts when there is no definition.
 * Writes up to max ids, ascending, returns how many there are: more than one is ambiguous.
 */
u32 types_find(const struct types *t, const char *name, u32 *ids, u32 max);
/*
 * The id of a type as C writes it: a name as above, with stars and counts behind: "struct task_struct *", "char[16]",
 * "char *[2][8]". A pointer or an array gets an id that is this set's alone and good as long as the set; the same
 * text gets the same one. ERROR_NOT_FOUND (the hint has the nearest name), ERROR_INVALID: no type, or ambiguous (the
 * message lists the ids).
 */
MUST_CHECK struct error *types_parse(const struct types *t, const char *text, u32 *ret);
/*
 * Names of definitions, as types_find() takes them, at or after prefix, for completion: calls each(name, id, arg)
 * until it is false. name is good during the call.
 */
void types_each_from(const struct types *t, const char *prefix, bool (*each)(const char *name, u32 id, void *arg),
		     void *arg);
/* Up to most of these that begin with prefix, each name once and with its NUL: Lua's errors must not pass through C. */
MUST_CHECK struct error *types_list_from(const struct types *t, const char *prefix, u32 most, struct buf *out);
/* A global variable (BTF has per-CPU ones) or function: its type's id (a prototype's), 0 when there is none. */
u32 types_find_variable(const struct types *t, const char *name);
u32 types_find_function(const struct types *t, const char *name);

/* ERROR_INVALID: no such id, or a tag's. Follows typedefs, const, volatile, restrict and type tags. */
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
/* A function's parameter by index: name ("" when it has none) and type; the last one's may be 0, for "...". */
MUST_CHECK struct error *types_get_parameter(const struct types *t, u32 id, u32 index, const char **name,
					     u32 *type);

/* A type as C writes it: "struct rq *", "char [16]", "int (*)(void *)". Of any id, typedefs kept. */
MUST_CHECK struct error *types_name(const struct types *t, u32 id, struct buf *out);
/* Its definition with offsets and sizes, one member a line, as pahole prints it. */
MUST_CHECK struct error *types_define(const struct types *t, u32 id, struct buf *out);

#endif
