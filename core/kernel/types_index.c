// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "kernel/types_internal.h"

/* An entry while it is sorted. */
struct sorted {
	u64 key; /* the name's first bytes, so that most comparisons do not go to the strings */
	struct name_entry entry;
};

typedef void (*name_visitor)(void *arg, enum name_list list, u32 name, u32 id);

static void visit_values(const struct btf_type *type, u32 id, name_visitor visit, void *arg)
{
	bool wide = btf_type_kind(type) == BTF_KIND_ENUM64;
	const struct btf_enum *narrow_values = btf_type_extra(type);
	const struct btf_enum64 *wide_values = btf_type_extra(type);

	for (u32 i = 0; i < btf_type_count(type); i++)
		visit(arg, NAMES_VALUE, wide ? wide_values[i].name_off : narrow_values[i].name_off, id);
}

static int list_of(const struct btf_type *type)
{
	switch (btf_type_kind(type)) {
	case BTF_KIND_INT:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_DATASEC:
		return NAMES_PLAIN;
	case BTF_KIND_STRUCT:
		return NAMES_STRUCT;
	case BTF_KIND_UNION:
		return NAMES_UNION;
	case BTF_KIND_FWD:
		return BTF_INFO_KFLAG(type->info) ? NAMES_UNION : NAMES_STRUCT;
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return NAMES_ENUM;
	case BTF_KIND_FUNC:
		return NAMES_FUNCTION;
	case BTF_KIND_VAR:
		return NAMES_VARIABLE;
	}
	return -1;
}

static void visit_names(const struct btf_bytes *b, name_visitor visit, void *arg)
{
	for (u32 id = b->first; id < b->end; id++) {
		const struct btf_type *type = btf_bytes_type(b, id);
		int list = list_of(type);

		if (list >= 0 && *btf_bytes_name(b, type->name_off))
			visit(arg, list, type->name_off, id);
		if (list == NAMES_ENUM)
			visit_values(type, id, visit, arg);
	}
}

static void count_name(void *arg, enum name_list list, u32 name, u32 id)
{
	u32 *counts = arg;

	counts[list]++;
}

struct filling {
	const struct btf_bytes *b;
	struct sorted *sorted;
	u32 next[NAME_LISTS];
};

/* Big-endian, so that comparing keys compares names; a name that ends within it leaves zeros. */
static u64 name_key(const char *name)
{
	u8 bytes[8] = { 0 };

	for (u32 i = 0; i < sizeof(bytes) && name[i]; i++)
		bytes[i] = name[i];

	u64 key;

	memcpy(&key, bytes, sizeof(key));
	return be64toh(key);
}

static void fill_name(void *arg, enum name_list list, u32 name, u32 id)
{
	struct filling *f = arg;

	f->sorted[f->next[list]++] = (struct sorted){
		.key = name_key(btf_bytes_name(f->b, name)),
		.entry = { .name = name, .id = id },
	};
}

static bool comes_before(const struct btf_bytes *b, const struct sorted *x, const struct sorted *y)
{
	if (x->key != y->key)
		return x->key < y->key;
	if (x->entry.name == y->entry.name || !(x->key & 0xff))
		return false;
	return strcmp(btf_bytes_name(b, x->entry.name) + sizeof(x->key),
		      btf_bytes_name(b, y->entry.name) + sizeof(y->key)) < 0;
}

/* By insertion, for short runs. */
static void sort_run(const struct btf_bytes *b, struct sorted *a, u32 n)
{
	for (u32 i = 1; i < n; i++) {
		struct sorted x = a[i];
		u32 j = i;

		for (; j && comes_before(b, &x, &a[j - 1]); j--)
			a[j] = a[j - 1];
		a[j] = x;
	}
}

/* Merges, so that nobody's names make it slow; stable, so that ids stay in order. */
static void sort_names(const struct btf_bytes *b, struct sorted *a, u32 n, struct sorted *spare)
{
	if (n <= 12) {
		sort_run(b, a, n);
		return;
	}

	u32 half = n / 2, i = 0, j = half, k = 0;

	sort_names(b, a, half, spare);
	sort_names(b, a + half, n - half, spare);
	if (!comes_before(b, &a[half], &a[half - 1]))
		return;
	memcpy(spare, a, half * sizeof(*a));
	while (i < half && j < n)
		a[k++] = comes_before(b, &a[j], &spare[i]) ? a[j++] : spare[i++];
	memcpy(a + k, spare + i, (half - i) * sizeof(*a));
}

struct error *types_index_build(const struct btf_bytes *b, struct types_index *ret, struct name_entry **entries)
{
	u32 counts[NAME_LISTS] = { 0 };
	struct filling f = { .b = b };

	visit_names(b, count_name, counts);
	ret->start[0] = 0;
	for (u32 l = 0; l < NAME_LISTS; l++) {
		f.next[l] = ret->start[l];
		ret->start[l + 1] = ret->start[l] + counts[l];
	}

	u32 n = ret->start[NAME_LISTS];
	CLEANUP_FREE struct sorted *sorted = malloc((n + 1) * sizeof(*sorted));
	CLEANUP_FREE struct sorted *spare = malloc((n / 2 + 1) * sizeof(*spare));
	struct name_entry *list = malloc((n + 1) * sizeof(*list));

	if (!sorted || !spare || !list) {
		free(list);
		return error_no_memory();
	}
	f.sorted = sorted;
	visit_names(b, fill_name, &f);
	for (u32 l = 0; l < NAME_LISTS; l++)
		sort_names(b, sorted + ret->start[l], counts[l], spare);
	for (u32 i = 0; i < n; i++)
		list[i] = sorted[i].entry;
	ret->entries = *entries = list;
	return NULL;
}

/* -1, 0, 1: name, of n characters, comes before that entry's, is it, comes after it. */
static int compare_name(const struct types *t, u32 index, const char *name, size_t n)
{
	const char *other = types_string(t, t->index.entries[index].name);
	int difference = strncmp(name, other, n);

	if (difference)
		return difference;
	return other[n] ? -1 : 0;
}

/* The first entry that name is not behind, or with `past`, the first that it is before. */
static u32 bound(const struct types *t, enum name_list list, const char *name, size_t n, bool past)
{
	u32 from = t->index.start[list], to = t->index.start[list + 1];

	while (from < to) {
		u32 middle = from + (to - from) / 2;
		int difference = compare_name(t, middle, name, n);

		if (difference > 0 || (past && !difference))
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

u32 types_index_from(const struct types *t, enum name_list list, const char *name, size_t n)
{
	return bound(t, list, name, n, false);
}

struct name_range types_index_find(const struct types *t, enum name_list list, const char *name, size_t n)
{
	return (struct name_range){ bound(t, list, name, n, false), bound(t, list, name, n, true) };
}
