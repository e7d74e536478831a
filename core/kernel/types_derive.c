// SPDX-License-Identifier: GPL-2.0-or-later
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/nearest.h"
#include "kernel/types_internal.h"

enum {
	MAX_LISTED = 8, /* of the definitions of an ambiguous name */
	MAX_LEVELS = 8, /* of pointers and of dimensions in a text */
};

/* --- types that the blob has not --- */

static struct derived *derived_at(const struct types *t, u32 index)
{
	return &t->derived[index / DERIVED_CHUNK][index % DERIVED_CHUNK];
}

static bool is_derived_of(const struct derived *d, u32 kind, u32 target, u32 count)
{
	if (btf_type_kind(&d->type) != kind)
		return false;
	return kind == BTF_KIND_PTR ? d->type.type == target : d->array.type == target && d->array.nelems == count;
}

/* With the lock held. */
static struct error *add_derived(struct types *t, u32 kind, u32 target, u32 count, u32 *ret)
{
	u32 index = 0;

	while (index < t->derived_count && !is_derived_of(derived_at(t, index), kind, target, count))
		index++;
	*ret = DERIVED_FIRST + index;
	if (index < t->derived_count)
		return NULL;
	if (index == DERIVED_CHUNK * DERIVED_CHUNKS)
		return error_create(ERROR_UNSUPPORTED, "more than %u different pointers and arrays were asked for",
				    index);
	if (!t->derived[index / DERIVED_CHUNK])
		t->derived[index / DERIVED_CHUNK] = calloc(DERIVED_CHUNK, sizeof(struct derived));
	if (!t->derived[index / DERIVED_CHUNK])
		return error_no_memory();
	*derived_at(t, index) = (struct derived){
		.type = { .info = kind << 24, .type = kind == BTF_KIND_PTR ? target : 0 },
		.array = { .type = target, .nelems = count },
	};
	/* Whoever sees the count sees what is below it. */
	__atomic_store_n(&t->derived_count, index + 1, __ATOMIC_RELEASE);
	return NULL;
}

struct error *types_derive(const struct types *t, u32 kind, u32 target, u32 count, u32 *ret)
{
	/* Nothing that anybody was told of the set changes by it. */
	struct types *own = (struct types *)t;

	if (kind == BTF_KIND_ARRAY) {
		u64 size = types_size(t, target);
		u32 of = types_kind(t, types_resolve(t, target));

		if (of == BTF_KIND_UNKN || of == BTF_KIND_FWD || of == BTF_KIND_FUNC_PROTO ||
		    size * count > UINT32_MAX)
			return error_create(ERROR_INVALID, "no array can have %u elements of %llu bytes", count,
					    (unsigned long long)size);
	}
	pthread_mutex_lock(&own->lock);

	struct error *err = add_derived(own, kind, target, count, ret);

	pthread_mutex_unlock(&own->lock);
	return err;
}

void types_derive_deinit(struct types *t)
{
	for (u32 i = 0; i < DERIVED_CHUNKS; i++)
		free(t->derived[i]);
}

/* --- "struct task_struct *[4]" --- */

static struct error *ambiguous(const struct types *t, const char *name, size_t size, const u32 *ids, u32 count)
{
	struct buf text = BUF_INIT;

	for (u32 i = 0; i < count && i < MAX_LISTED; i++) {
		const struct btf_type *type = types_at(t, ids[i]);

		types_print(&text, "%stype %u (%llu bytes, %u members)", i ? ", " : "", ids[i],
			    (unsigned long long)types_size(t, ids[i]), btf_type_count(type));
	}
	buf_put_u8(&text, 0);

	struct error *err = buf_check(&text);

	if (!err)
		err = error_create(ERROR_INVALID, "'%.*s' is ambiguous, there are %u: %s", (int)size, name, count,
				   (char *)text.data);
	buf_deinit(&text);
	return error_with_hint(err, "take one by its number");
}

static bool offer_name(const char *name, u32 id, void *arg)
{
	nearest_offer(arg, name);
	return true;
}

static struct error *not_found(const struct types *t, const char *name, size_t size)
{
	struct nearest near;
	char wanted[NEAREST_MAX + 1];

	snprintf(wanted, sizeof(wanted), "%.*s", (int)size, name);
	nearest_init(&near, wanted);
	types_each_from(t, "", offer_name, &near);

	struct error *err = error_create(ERROR_NOT_FOUND, "there is no type '%s'", wanted);

	return nearest_is_guess(&near) ? error_with_hint(err, "did you mean '%s'?", near.names[0]) : err;
}

static struct error *parse_base(const struct types *t, const char *name, size_t size, u32 *ret)
{
	u32 ids[MAX_LISTED];
	u32 count = types_find_span(t, name, size, ids, MAX_LISTED);

	if (!count)
		return not_found(t, name, size);
	if (count > 1)
		return ambiguous(t, name, size, ids, count);
	*ret = ids[0];
	return NULL;
}

static struct error *bad_text(const char *text)
{
	return error_with_hint(error_create(ERROR_INVALID, "'%s' is not a type", text),
			       "such as \"struct rq\", \"u64\", \"struct task_struct *\" or \"char[16]\"");
}

/* "[4][2]" from the right: the last is the innermost. Leaves *end before the brackets. */
static struct error *parse_counts(const char *text, const char **end, u32 counts[MAX_LEVELS], u32 *n)
{
	for (*n = 0; *end > text && (*end)[-1] == ']';) {
		const char *open = *end - 1;
		char *digits_end;

		while (open > text && *open != '[')
			open--;

		const char *digits = open + 1;

		while (isspace((u8)*digits))
			digits++;
		if (*open != '[' || !isdigit((u8)*digits) || *n == MAX_LEVELS)
			return bad_text(text);

		unsigned long long count = strtoull(digits, &digits_end, 0);

		while (isspace((u8)*digits_end))
			digits_end++;
		if (digits_end != *end - 1 || count > UINT32_MAX)
			return bad_text(text);
		counts[(*n)++] = count;
		for (*end = open; *end > text && isspace((u8)(*end)[-1]);)
			--*end;
	}
	return NULL;
}

static const char *parse_stars(const char *text, const char *end, u32 *n)
{
	for (*n = 0; end > text && (end[-1] == '*' || isspace((u8)end[-1])); end--)
		*n += end[-1] == '*';
	return end;
}

struct error *types_parse(const struct types *t, const char *text, u32 *ret)
{
	u32 counts[MAX_LEVELS] = { 0 }, dimensions = 0, stars = 0, id = 0;
	const char *end = text + strlen(text);

	while (end > text && isspace((u8)end[-1]))
		end--;

	struct error *err = parse_counts(text, &end, counts, &dimensions);

	if (err)
		return err;
	end = parse_stars(text, end, &stars);
	if (end == text || stars > MAX_LEVELS || strpbrk(text, "()"))
		return bad_text(text);
	err = parse_base(t, text, end - text, &id);
	for (u32 i = 0; i < stars && !err; i++)
		err = types_derive(t, BTF_KIND_PTR, id, 0, &id);
	for (u32 i = 0; i < dimensions && !err; i++)
		err = types_derive(t, BTF_KIND_ARRAY, id, counts[i], &id);
	if (!err)
		*ret = id;
	return err;
}
