/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kallsyms made by hand, in any layout that kernels have had.
 * Depends on base and kernel/kallsyms.h's enum of the layouts; nothing else of core/kernel takes part in it.
 * Every step that fails aborts: a test's own tables are never in doubt.
 */
#ifndef TESTS_KALLSYMS_BUILDER_H
#define TESTS_KALLSYMS_BUILDER_H

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "kernel/kallsyms.h"

/* The image that the symbols are of. */
#define BUILT_SYMBOLS_START 0xffffffff81000000ULL
#define BUILT_SYMBOLS_END 0xffffffff81800000ULL
#define BUILT_SYMBOLS_PERCPU 0x800ULL

struct built_symbol {
	u64 address; /* below BUILT_SYMBOLS_PERCPU: a per-CPU offset */
	char kind;
	const char *name;
};

struct kallsyms_options {
	enum kallsyms_layout layout;
	u32 align; /* 4 or 8 */
	bool absolute; /* per-CPU symbols are offsets */
	bool no_seqs;
	bool shuffled_seqs; /* every symbol is in it, in no order */
	u64 virt; /* address of the buffer's first byte */
};

/* What codes that no character needs stand for. */
static const char *const built_tokens[] = {
	"sched_",
	"T__x64_sys_",
	"init",
	"_task",
	"t__pfx_",
	"per",
	"cpu",
	"long_",
	"__",
	"_a_token_of_more_than_15_",
};

/* The codes' strings: digits, letters and what else names have stand for themselves. */
struct built_table {
	char text[256][32];
};

static inline bool built_is_itself(u32 c)
{
	return c && (isalnum((int)c) || strchr("_.$", (int)c));
}

static inline void built_make_table(struct built_table *t)
{
	u32 next = 0;

	memset(t, 0, sizeof(*t));
	for (u32 c = 0; c < 256; c++) {
		if (built_is_itself(c))
			t->text[c][0] = (char)c;
		else if (c % 3 && next < sizeof(built_tokens) / sizeof(*built_tokens)) // some have no use at all
			strcpy(t->text[c], built_tokens[next++]);
	}
}

static inline u32 built_longest(const struct built_table *t, const char *text)
{
	u32 best = 256;
	size_t most = 0;

	for (u32 c = 0; c < 256; c++) {
		size_t n = strlen(t->text[c]);

		if (n > most && !strncmp(text, t->text[c], n)) {
			best = c;
			most = n;
		}
	}
	if (best == 256)
		abort();
	return best;
}

static inline void built_put_name(struct buf *b, const struct built_table *t, const struct built_symbol *s)
{
	struct buf codes = BUF_INIT;
	char text[2048];

	if (snprintf(text, sizeof(text), "%c%s", s->kind, s->name) >= (int)sizeof(text))
		abort();
	for (const char *p = text; *p;) {
		u32 code = built_longest(t, p);

		buf_put_u8(&codes, code);
		p += strlen(t->text[code]);
	}
	if (codes.size >= 0x80) {
		buf_put_u8(b, (codes.size & 0x7f) | 0x80);
		buf_put_u8(b, codes.size >> 7);
	} else {
		buf_put_u8(b, codes.size);
	}
	buf_put(b, codes.data, codes.size);
	buf_deinit(&codes);
}

static inline void built_put_names(struct buf *b, const struct built_table *t, const struct built_symbol *s, u32 count,
				   u32 align)
{
	struct buf markers = BUF_INIT;

	buf_put_u32(b, count);
	buf_align(b, align);

	size_t start = b->size;

	for (u32 i = 0; i < count; i++) {
		if (i % 256 == 0)
			buf_put_u32(&markers, b->size - start);
		built_put_name(b, t, &s[i]);
	}
	buf_align(b, align);
	buf_put(b, markers.data, markers.size);
	buf_align(b, align);
	buf_deinit(&markers);
}

static inline void built_put_token_table(struct buf *b, const struct built_table *t, u32 align)
{
	u16 at[256];
	size_t start = b->size;

	for (u32 c = 0; c < 256; c++) {
		at[c] = b->size - start;
		buf_put(b, t->text[c], strlen(t->text[c]) + 1);
	}
	buf_align(b, align);
	for (u32 c = 0; c < 256; c++)
		buf_put_u16(b, at[c]);
	buf_align(b, align);
}

static inline u32 built_offset(const struct built_symbol *s, const struct kallsyms_options *o, u64 here)
{
	if (o->layout == KALLSYMS_SELF)
		return s->address - here;
	if (!o->absolute)
		return s->address - BUILT_SYMBOLS_START;
	return s->address < BUILT_SYMBOLS_PERCPU ? s->address : BUILT_SYMBOLS_START - 1 - s->address;
}

static inline void built_put_offsets(struct buf *b, const struct built_symbol *s, u32 count,
				     const struct kallsyms_options *o)
{
	for (u32 i = 0; i < count; i++)
		buf_put_u32(b, built_offset(&s[i], o, o->virt + b->size));
	buf_align(b, o->align);
	if (o->layout == KALLSYMS_SELF)
		return;
	buf_put_u64(b, BUILT_SYMBOLS_START);
}

static inline int built_compare(const void *a, const void *b, void *arg)
{
	const struct built_symbol *s = arg;
	u32 x = *(const u32 *)a, y = *(const u32 *)b;
	int order = strcmp(s[x].name, s[y].name);

	return order ? order : x < y ? -1 :
				       x > y;
}

static inline void built_put_seqs(struct buf *b, const struct built_symbol *s, u32 count,
				  const struct kallsyms_options *o)
{
	u32 *order = malloc((count + 1) * sizeof(*order));

	if (o->no_seqs) {
		free(order);
		return;
	}
	for (u32 i = 0; i < count; i++)
		order[i] = o->shuffled_seqs ? count - 1 - i : i;
	if (!o->shuffled_seqs)
		qsort_r(order, count, sizeof(*order), built_compare, (void *)s);
	for (u32 i = 0; i < count; i++)
		for (int shift = 16; shift >= 0; shift -= 8)
			buf_put_u8(b, order[i] >> shift);
	buf_align(b, o->align);
	free(order);
}

/* Appends the tables to b, whose first byte is at o->virt. The symbols are sorted by address, per-CPU ones first. */
static inline void build_kallsyms(struct buf *b, const struct built_symbol *s, u32 count,
				  const struct kallsyms_options *o)
{
	struct built_table t;

	built_make_table(&t);
	buf_align(b, o->align);
	if (o->layout == KALLSYMS_BEFORE)
		built_put_offsets(b, s, count, o);
	built_put_names(b, &t, s, count, o->align);
	if (o->layout == KALLSYMS_BEFORE)
		built_put_seqs(b, s, count, o);
	built_put_token_table(b, &t, o->align);
	if (o->layout != KALLSYMS_BEFORE) {
		built_put_offsets(b, s, count, o);
		built_put_seqs(b, s, count, o);
	}
	if (b->failed)
		abort();
}

/* Something that is no kallsyms, and looks like other read-only data: numbers, zeros and strings with digits. */
static inline void built_put_other(struct buf *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_put_u8(b, i % 64 >= 40 ? i * 37 : i % 2 || i % 64 >= 20 ? 0 :
									      '0' + i % 64 / 2 % 7);
}

/* A symbol for each place of a list: names of every length up to 300, some the same, per-CPU ones when asked for. */
struct built_list {
	struct built_symbol *symbols;
	u32 count;
};

static inline struct built_list build_symbol_list(u32 count, bool percpu)
{
	struct built_list list = { .symbols = calloc(count, sizeof(*list.symbols)), .count = count };
	u32 first = percpu ? count / 8 : 0;

	for (u32 i = 0; i < count; i++) {
		struct built_symbol *s = &list.symbols[i];
		char name[512];
		u32 n = i % 5 ? snprintf(name, sizeof(name), "sched_task_%u", i * 7919 % 1000) :
				snprintf(name, sizeof(name), "%u_same", i % 3);

		for (u32 j = 0; i % 32 == 31 && j < i % 300 && n + 2 < sizeof(name); j++)
			name[n++] = (char)("xqzjkvw"[(i + j) % 7]);
		name[n] = '\0';
		*s = (struct built_symbol){
			.address = i < first ? i * 4 : BUILT_SYMBOLS_START + (u64)(i - first) / 2 * 0x40,
			.kind = i < first ? 'A' : "tTdDbBrRVW"[i % 10],
			.name = strdup(name),
		};
	}
	return list;
}

static inline void built_list_deinit(struct built_list *list)
{
	for (u32 i = 0; i < list->count; i++)
		free((char *)list->symbols[i].name);
	free(list->symbols);
}

#endif
