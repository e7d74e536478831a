/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BTF as bytes: checks a blob that anybody may have written, then finds types and names in it.
 * Depends on base and <linux/btf.h>; libbpf checks next to nothing, so this comes before it.
 * What has passed may be followed blindly: ids, names and members stay inside, and every walk ends.
 */
#ifndef KERNEL_BTF_CHECK_H
#define KERNEL_BTF_CHECK_H

#include <linux/btf.h>

#include "base/error.h"
#include "base/types.h"

enum {
	BTF_MAX_SIZE = 64 << 20, /* of a blob; a kernel's has 5 MiB */
	BTF_MAX_NAME = 1023, /* characters; the kernel allows 511 */
	BTF_MAX_DEPTH = 64, /* of types inside each other, and of "pointer to array of ..." */
	BTF_POINTER_SIZE = 8,
};

/* Where things are in a blob. */
struct btf_bytes {
	const struct btf_bytes *base; /* what a split goes on with; NULL: ids begin with 1 */
	const void *data; /* all of it; aligned to 4 */
	u32 size;
	const u8 *types;
	u32 types_size;
	const char *strings;
	u32 strings_size;
	u32 first_string; /* the name offset of strings[0]: behind the base's */
	bool odd_strings; /* some are too long for a name or have control characters, here or in the base */
	u32 first, end; /* its own ids, end not included */
	const u32 *offsets; /* of its own types, in the type section */
};

/* The sections of a blob, by its header alone: first, end and offsets are not set. */
MUST_CHECK struct error *btf_check_header(const void *data, size_t size, const struct btf_bytes *base,
					  struct btf_bytes *ret);

/*
 * All of it. data, aligned to 4, stays the caller's and has to outlive *ret; *offsets is what ret->offsets points to,
 * the caller's to free. ERROR_FORMAT names the type and what is wrong with it. ERROR_UNSUPPORTED: another byte order
 * or version, or a kind that is not known: how long those types are cannot be told.
 */
MUST_CHECK struct error *btf_check(const void *data, size_t size, const struct btf_bytes *base,
				   struct btf_bytes *ret, u32 **offsets);

const char *btf_kind_name(u32 kind); /* "struct", "decl tag", ... */

static inline u32 btf_type_kind(const struct btf_type *type)
{
	return BTF_INFO_KIND(type->info);
}

static inline u32 btf_type_count(const struct btf_type *type)
{
	return BTF_INFO_VLEN(type->info);
}

/* What follows a struct btf_type: members, values, parameters, a struct btf_array, ... */
static inline const void *btf_type_extra(const struct btf_type *type)
{
	return type + 1;
}

extern const struct btf_type btf_void; /* which has no bytes: kind 0, no name */

/* Of an id below b->end; 0 is void. */
static inline const struct btf_type *btf_bytes_type(const struct btf_bytes *b, u32 id)
{
	if (!id)
		return &btf_void;
	while (id < b->first)
		b = b->base;
	return (const void *)(b->types + b->offsets[id - b->first]);
}

static inline u32 btf_bytes_kind(const struct btf_bytes *b, u32 id)
{
	return btf_type_kind(btf_bytes_type(b, id));
}

/* Of a name offset that has been checked. */
static inline const char *btf_bytes_name(const struct btf_bytes *b, u32 offset)
{
	while (offset < b->first_string)
		b = b->base;
	return b->strings + (offset - b->first_string);
}

static inline bool btf_kind_is_qualifier(u32 kind)
{
	return kind == BTF_KIND_VOLATILE || kind == BTF_KIND_CONST || kind == BTF_KIND_RESTRICT ||
	       kind == BTF_KIND_TYPE_TAG;
}

/* The id behind typedefs, qualifiers and type tags. */
u32 btf_bytes_resolve(const struct btf_bytes *b, u32 id);

/* A member's offset in bits, and the bits of a bit-field, else 0; type is the struct's. */
void btf_bytes_member(const struct btf_bytes *b, const struct btf_type *type, const struct btf_member *member,
		      u32 *offset, u32 *bits);

#endif
