/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What struct types is made of, for the files that implement kernel/types.h.
 * Depends on btf_check.h and libbpf.
 * All but what the lock guards is never changed once the set is made.
 */
#ifndef KERNEL_TYPES_INTERNAL_H
#define KERNEL_TYPES_INTERNAL_H

#include <pthread.h>

#include <bpf/btf.h>

#include "kernel/btf_check.h"
#include "kernel/types.h"

/* What a name is the name of. */
enum name_list {
	NAMES_PLAIN, /* typedefs, basic types, sections */
	NAMES_STRUCT,
	NAMES_UNION,
	NAMES_ENUM,
	NAMES_VALUE, /* of enums: the id is the enum's */
	NAMES_FUNCTION,
	NAMES_VARIABLE,
	NAME_LISTS,
};

struct name_entry {
	u32 name; /* an offset in the strings */
	u32 id;
};

/* Each list sorted by name, then by id: those of one name lie side by side. */
struct types_index {
	const struct name_entry *entries;
	u32 start[NAME_LISTS + 1]; /* list l: from start[l] to below start[l + 1] */
};

struct name_range {
	u32 from, to;
};

/* Types that were asked for and that the blob has not: pointers and arrays, each as BTF would have it. */
struct derived {
	struct btf_type type;
	struct btf_array array;
};

enum {
	DERIVED_FIRST = 1U << 30, /* behind every id of a blob */
	DERIVED_CHUNK = 64,
	DERIVED_CHUNKS = 64,
};

struct types {
	const struct types *base;
	struct btf_bytes bytes;
	struct types_index index;
	bool tell_signs; /* enums have the flag of signed ones where they are */

	/* What the above points into: either from a blob, or mapped from a file. */
	u32 *offsets;
	struct name_entry *entries;
	void *mapping;
	size_t mapping_size;

	pthread_mutex_t lock; /* for the two below */
	struct btf *btf; /* of a mapped set: made when a split needs it */
	struct derived *derived[DERIVED_CHUNKS]; /* never moved: read without the lock, below the count */
	u32 derived_count;
};

/* Of an id that is known to be one: below the end, or a derived one. */
const struct btf_type *types_at(const struct types *t, u32 id);
u32 types_kind(const struct types *t, u32 id); /* BTF's */
/* Is there such an id? */
bool types_has(const struct types *t, u32 id);
MUST_CHECK struct error *types_check_id(const struct types *t, u32 id);
const char *types_string(const struct types *t, u32 offset);
/* Behind typedefs and qualifiers. */
u32 types_resolve(const struct types *t, u32 id);
u64 types_size(const struct types *t, u32 id); /* bytes; 0 when it has none */
const char *types_own_name(const struct types *t, u32 id); /* "" when it has none */
bool types_is_composite(u32 kind); /* struct, union */
/* Whether any enum of a blob has what BTF says of signs with: where none has, it may be older than that. */
bool types_tell_signs(const struct btf_bytes *b);

/* types_create() of a blob that is aligned to 4 and changes no more. */
MUST_CHECK struct error *types_create_private(const void *blob, size_t size, const struct types *base,
					      struct types **ret);

MUST_CHECK struct error *types_index_build(const struct btf_bytes *b, struct types_index *ret,
					   struct name_entry **entries);
/* The entries of exactly that name, of n characters. */
struct name_range types_index_find(const struct types *t, enum name_list list, const char *name, size_t n);
/* The first entry at or after that name. */
u32 types_index_from(const struct types *t, enum name_list list, const char *name, size_t n);

/* types_find() of a name that is part of a text. */
u32 types_find_span(const struct types *t, const char *name, size_t size, u32 *ids, u32 max);

/* The id of "pointer to target" or "count times target", the same each time. */
MUST_CHECK struct error *types_derive(const struct types *t, u32 kind, u32 target, u32 count, u32 *ret);
void types_derive_deinit(struct types *t);

/* name as a C declaration of that type: "int (*name)(void *)"; name may be "". */
MUST_CHECK struct error *types_declare(const struct types *t, u32 id, const char *name, struct buf *out);
void types_print(struct buf *out, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
