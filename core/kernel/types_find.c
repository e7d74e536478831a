// SPDX-License-Identifier: GPL-2.0-or-later
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "kernel/types_internal.h"

/* "struct rq": the list that it is in, and the name there. */
struct wanted {
	enum name_list list;
	const char *name;
	size_t size;
	/* Of a basic type, instead of name: as gcc has it in BTF, and as clang. */
	char plain[32], plain_clang[32];
};

static const char *const keywords[] = {
	[NAMES_PLAIN] = "",
	[NAMES_STRUCT] = "struct ",
	[NAMES_UNION] = "union ",
	[NAMES_ENUM] = "enum ",
};

enum { KEYWORDS = ARRAY_SIZE(keywords) };

/* --- the ways to write a basic type --- */

struct basic {
	u32 is_unsigned, is_signed, longs, shorts, chars, ints;
};

static bool add_word(struct basic *b, const char *word, size_t n)
{
	const struct {
		const char *word;
		u32 *count;
	} words[] = {
		{ "unsigned", &b->is_unsigned },
		{ "signed", &b->is_signed },
		{ "long", &b->longs },
		{ "short", &b->shorts },
		{ "char", &b->chars },
		{ "int", &b->ints },
	};

	for (u32 i = 0; i < ARRAY_SIZE(words); i++)
		if (strlen(words[i].word) == n && !memcmp(words[i].word, word, n))
			return ++*words[i].count;
	return false;
}

/* The words of a basic type in any order. */
static bool read_basic(const char *s, const char *end, struct basic *b)
{
	while (s < end) {
		const char *word = s;

		while (s < end && *s != ' ')
			s++;
		if (s > word && !add_word(b, word, s - word))
			return false;
		s += s < end;
	}
	return b->is_unsigned + b->is_signed <= 1 && b->longs <= 2 && b->shorts + b->chars + (b->longs > 0) <= 1 &&
	       b->ints <= 1;
}

/* gcc calls it "long unsigned int", and clang "unsigned long". */
static void spell_basic(const struct basic *b, bool by_clang, char out[32])
{
	out[0] = 0;
	if (b->chars) {
		strcat(out, b->is_unsigned ? "unsigned char" : b->is_signed ? "signed char" :
									      "char");
		return;
	}
	if (by_clang && b->is_unsigned)
		strcat(out, "unsigned ");
	for (u32 i = 0; i < b->longs; i++)
		strcat(out, "long ");
	if (b->shorts)
		strcat(out, "short ");
	if (by_clang && (b->longs || b->shorts)) {
		out[strlen(out) - 1] = 0;
		return;
	}
	if (!by_clang && b->is_unsigned)
		strcat(out, "unsigned ");
	strcat(out, "int");
}

/* The name is from name to end, blanks around it left out. */
static struct wanted read_name(const char *name, const char *end)
{
	struct wanted w = { .list = NAMES_PLAIN };
	struct basic basic = { 0 };

	while (name < end && isspace((u8)*name))
		name++;
	while (name < end && isspace((u8)end[-1]))
		end--;
	for (u32 k = NAMES_STRUCT; k < KEYWORDS; k++) {
		size_t n = strlen(keywords[k]);

		if ((size_t)(end - name) > n && !memcmp(name, keywords[k], n)) {
			w.list = k;
			name += n;
			while (name < end && isspace((u8)*name))
				name++;
			break;
		}
	}
	w.name = name;
	w.size = end - name;
	if (w.list == NAMES_PLAIN && w.size && read_basic(name, end, &basic)) {
		spell_basic(&basic, false, w.plain);
		spell_basic(&basic, true, w.plain_clang);
		w.name = NULL;
	}
	return w;
}

static bool is_declared_only(const struct types *t, u32 id)
{
	return types_kind(t, id) == BTF_KIND_FWD;
}

static struct name_range find_range(const struct types *t, const struct wanted *w)
{
	if (w->name)
		return types_index_find(t, w->list, w->name, w->size);

	struct name_range range = types_index_find(t, w->list, w->plain, strlen(w->plain));

	return range.from < range.to ? range :
				       types_index_find(t, w->list, w->plain_clang, strlen(w->plain_clang));
}

/* Definitions, or what is only declared; the base's first, so that ids ascend. */
static u32 collect(const struct types *t, const struct wanted *w, bool declared, u32 *ids, u32 max)
{
	u32 n = t->base ? collect(t->base, w, declared, ids, max) : 0;

	// What another compiler has built on top has the same basic types by other names.
	if (n && !w->name)
		return n;

	struct name_range range = find_range(t, w);

	for (u32 i = range.from; i < range.to; i++) {
		u32 id = t->index.entries[i].id;

		if (is_declared_only(t, id) != declared)
			continue;
		if (n < max)
			ids[n] = id;
		n++;
	}
	return n;
}

u32 types_find_span(const struct types *t, const char *name, size_t size, u32 *ids, u32 max)
{
	struct wanted w = read_name(name, name + size);

	if (w.list == NAMES_PLAIN && w.name && w.size == 4 && !memcmp(w.name, "void", 4)) {
		if (max)
			ids[0] = 0;
		return 1;
	}
	return collect(t, &w, false, ids, max) ?: collect(t, &w, true, ids, max);
}

u32 types_find(const struct types *t, const char *name, u32 *ids, u32 max)
{
	return types_find_span(t, name, strlen(name), ids, max);
}

/* --- names in their order --- */

/* One list of one set, at the next name to be handed out. */
struct cursor {
	const struct types *t;
	enum name_list list;
	u32 at, end;
	char text[BTF_MAX_NAME + 8]; /* with its keyword */
};

/* At its next definition. */
static void cursor_settle(struct cursor *c)
{
	const struct name_entry *entries = c->t->index.entries;

	while (c->at < c->end && is_declared_only(c->t, entries[c->at].id))
		c->at++;
	if (c->at < c->end)
		snprintf(c->text, sizeof(c->text), "%s%s", keywords[c->list],
			 types_string(c->t, entries[c->at].name));
}

static void cursor_start(struct cursor *c, const struct types *t, enum name_list list, const char *prefix)
{
	size_t n = strlen(keywords[list]);

	*c = (struct cursor){ .t = t, .list = list, .at = t->index.start[list], .end = t->index.start[list + 1] };
	if (!strncmp(prefix, keywords[list], n))
		c->at = types_index_from(t, list, prefix + n, strlen(prefix + n));
	else if (strcmp(prefix, keywords[list]) > 0)
		c->at = c->end;
	cursor_settle(c);
}

static struct cursor *cursor_next(struct cursor *cursors, u32 count)
{
	struct cursor *next = NULL;

	for (struct cursor *c = cursors; c < cursors + count; c++)
		if (c->at < c->end && (!next || strcmp(c->text, next->text) < 0))
			next = c;
	return next;
}

void types_each_from(const struct types *t, const char *prefix, bool (*each)(const char *name, u32 id, void *arg),
		     void *arg)
{
	struct cursor cursors[2 * KEYWORDS], *c;
	u32 count = 0;

	for (u32 list = NAMES_PLAIN; list < KEYWORDS; list++) {
		if (t->base)
			cursor_start(&cursors[count++], t->base, list, prefix);
		cursor_start(&cursors[count++], t, list, prefix);
	}
	while ((c = cursor_next(cursors, count))) {
		if (!each(c->text, c->t->index.entries[c->at].id, arg))
			return;
		c->at++;
		cursor_settle(c);
	}
}

struct list {
	const char *prefix;
	u32 left;
	struct buf *out;
	size_t last; /* where in out the last one is; out->size: there is none */
};

static bool list_name(const char *name, u32 id, void *arg)
{
	struct list *l = arg;

	(void)id;
	if (strncmp(name, l->prefix, strlen(l->prefix)) != 0 || l->out->failed)
		return false;
	if (l->last < l->out->size && !strcmp((const char *)l->out->data + l->last, name))
		return true;
	if (!l->left)
		return false;
	l->left--;
	l->last = l->out->size;
	buf_put(l->out, name, strlen(name) + 1);
	return true;
}

struct error *types_list_from(const struct types *t, const char *prefix, u32 most, struct buf *out)
{
	struct list l = { .prefix = prefix, .left = most, .out = out, .last = out->size };

	types_each_from(t, prefix, list_name, &l);
	return buf_check(out);
}

/* --- variables, functions, values --- */

/* The type of what has that name in that list; a split's own comes first. */
static u32 find_typed(const struct types *t, enum name_list list, const char *name)
{
	for (; t; t = t->base) {
		struct name_range range = types_index_find(t, list, name, strlen(name));

		if (range.from < range.to)
			return types_at(t, t->index.entries[range.from].id)->type;
	}
	return 0;
}

u32 types_find_variable(const struct types *t, const char *name)
{
	return find_typed(t, NAMES_VARIABLE, name);
}

u32 types_find_function(const struct types *t, const char *name)
{
	return find_typed(t, NAMES_FUNCTION, name);
}

/* The value that an enum gives to a name of its. */
static struct error *value_of(const struct types *t, u32 id, const char *name, s64 *value)
{
	const char *found;

	for (u32 i = 0; i < btf_type_count(types_at(t, id)); i++) {
		struct error *err = types_get_value(t, id, i, &found, value);

		if (err || !strcmp(found, name))
			return err;
	}
	return error_create(ERROR_NOT_FOUND, "enum %u has no value '%s'", id, name);
}

/* Adds what one set knows of the name; *count is how many had it so far. */
static struct error *add_value(const struct types *t, const char *name, u32 *count, u32 *type, s64 *value)
{
	struct name_range range = types_index_find(t, NAMES_VALUE, name, strlen(name));

	for (u32 i = range.from; i < range.to; i++) {
		u32 id = t->index.entries[i].id;
		s64 other = 0;
		struct error *err = value_of(t, id, name, &other);

		if (err)
			return err;
		if ((*count)++ && other != *value)
			return error_create(ERROR_INVALID,
					    "'%s' is %lld in enum '%s' (type %u) and %lld in enum '%s' (type %u)",
					    name, (long long)*value, types_own_name(t, *type), *type,
					    (long long)other, types_own_name(t, id), id);
		if (*count == 1) {
			*type = id;
			*value = other;
		}
	}
	return NULL;
}

struct error *types_find_value(const struct types *t, const char *name, u32 *type, s64 *value)
{
	u32 count = 0, found_type = 0;
	s64 found = 0;
	struct error *err = t->base ? add_value(t->base, name, &count, &found_type, &found) : NULL;

	if (!err)
		err = add_value(t, name, &count, &found_type, &found);
	if (err)
		return err;
	if (!count)
		return error_create(ERROR_NOT_FOUND, "no enum has a value '%s'", name);
	*type = found_type;
	*value = found;
	return NULL;
}
