// SPDX-License-Identifier: GPL-2.0-or-later
#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "kernel/lines_parts.h"

enum {
	SPANS_MAX = 1 << 22, /* of one table; a kernel has some ten thousand units */
	NAMESPACES_MAX = 16, /* nested */
	BLOCKS_MAX = 256, /* nested */
};

struct error *line_damage(void)
{
	return error_create(ERROR_FORMAT, "its debugging information is damaged (%s)",
			    dwarf_errmsg(-1) ?: "libdw does not say how");
}

/* --- ranges --- */

static struct error *add_span(struct span_table *t, u64 start, u64 end, u64 die)
{
	if (t->count == t->capacity) {
		u32 capacity = t->capacity ? t->capacity * 2 : 64;

		if (capacity > SPANS_MAX)
			return error_create(ERROR_FORMAT, "its debugging information is damaged (too many ranges)");

		struct span *spans = realloc(t->spans, capacity * sizeof(*spans));

		if (!spans)
			return error_no_memory();
		t->spans = spans;
		t->capacity = capacity;
	}
	t->spans[t->count++] = (struct span){ .start = start, .end = end, .die = die };
	return NULL;
}

struct error *span_table_add(struct span_table *t, Dwarf_Die *die, u64 lowest)
{
	Dwarf_Addr base, start, end;
	ptrdiff_t at = 0;

	while ((at = dwarf_ranges(die, at, &base, &start, &end)) > 0) {
		if (start >= end || start < lowest)
			continue;

		struct error *err = add_span(t, start, end, dwarf_dieoffset(die));

		if (err)
			return err;
	}
	return at < 0 ? line_damage() : NULL;
}

static int compare_spans(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->start != y->start ? (x->start > y->start) - (x->start < y->start) :
				      (x->die > y->die) - (x->die < y->die);
}

void span_table_sort(struct span_table *t)
{
	u64 reach = 0;

	if (t->count)
		qsort(t->spans, t->count, sizeof(*t->spans), compare_spans);
	for (u32 i = 0; i < t->count; i++) {
		if (t->spans[i].end > reach)
			reach = t->spans[i].end;
		t->spans[i].reach = reach;
	}
}

const struct span *span_table_find(const struct span_table *t, u64 address)
{
	u32 low = 0, high = t->count; /* the first that begins above address */

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (t->spans[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	// Ranges do not overlap but in files that are odd: this ends at once, then.
	while (low-- && t->spans[low].reach > address)
		if (t->spans[low].end > address)
			return &t->spans[low];
	return NULL;
}

void span_table_deinit(struct span_table *t)
{
	free(t->spans);
}

/* --- units --- */

void line_unit_destroy(struct line_unit *u)
{
	if (!u)
		return;
	span_table_deinit(&u->functions);
	free(u);
}

static void line_unit_cleanup(struct line_unit **u)
{
	line_unit_destroy(*u);
}

const char *line_unit_directory(Dwarf_Die *unit)
{
	Dwarf_Attribute attribute;

	return dwarf_attr(unit, DW_AT_comp_dir, &attribute) ? dwarf_formstring(&attribute) : NULL;
}

/* Functions of Rust are in namespaces. */
static struct error *add_functions(struct line_unit *u, Dwarf_Die *parent, u64 lowest, u32 depth)
{
	Dwarf_Die die;
	int left = dwarf_child(parent, &die);
	struct error *err = NULL;

	for (; !left && !err; left = dwarf_siblingof(&die, &die)) {
		int tag = dwarf_tag(&die);

		if (tag == DW_TAG_subprogram)
			err = span_table_add(&u->functions, &die, lowest);
		else if (tag == DW_TAG_namespace && depth < NAMESPACES_MAX)
			err = add_functions(u, &die, lowest, depth + 1);
	}
	return err || left >= 0 ? err : line_damage();
}

struct error *line_unit_create(Dwarf *dwarf, u64 offset, u64 lowest, struct line_unit **ret)
{
	CLEANUP(line_unit_cleanup)
	struct line_unit *u = calloc(1, sizeof(*u));

	if (!u)
		return error_no_memory();
	u->offset = offset;
	if (!dwarf_offdie(dwarf, offset, &u->die))
		return line_damage();
	u->directory = line_unit_directory(&u->die);

	struct error *err = add_functions(u, &u->die, lowest, 0);

	if (err)
		return err;
	span_table_sort(&u->functions);
	*ret = no_free(u);
	return NULL;
}

/* --- a line --- */

static bool holds_code(int tag)
{
	return tag == DW_TAG_lexical_block || tag == DW_TAG_inlined_subroutine || tag == DW_TAG_try_block ||
	       tag == DW_TAG_catch_block;
}

/* The block or inlined call within a DIE that an address belongs to. 1: there is none; negative: damaged. */
static int find_inner(Dwarf_Die *outer, u64 address, Dwarf_Die *ret)
{
	Dwarf_Die die;
	int left = dwarf_child(outer, &die);

	for (; !left; left = dwarf_siblingof(&die, &die)) {
		int has = holds_code(dwarf_tag(&die)) ? dwarf_haspc(&die, address) : 0;

		if (has < 0)
			return has;
		if (has) {
			*ret = die;
			return 0;
		}
	}
	return left;
}

static int number_of(Dwarf_Die *die, unsigned int name)
{
	Dwarf_Attribute attribute;
	Dwarf_Word value;

	if (!dwarf_attr(die, name, &attribute) || dwarf_formudata(&attribute, &value) || value > INT32_MAX)
		return 0;
	return (int)value;
}

/* The call of an inlined function: the place of what it was inlined into. */
static struct raw_place call_of(Dwarf_Die *inlined, Dwarf_Files *files)
{
	return (struct raw_place){
		.file = files ? dwarf_filesrc(files, number_of(inlined, DW_AT_call_file), NULL, NULL) : NULL,
		.line = number_of(inlined, DW_AT_call_line),
		.column = number_of(inlined, DW_AT_call_column),
	};
}

/* calls: of what is inlined at an address, the outermost first. */
static struct error *find_calls(Dwarf_Die *function, u64 address, Dwarf_Die calls[LINE_PLACES - 1], u32 *count)
{
	Dwarf_Die outer = *function, inner;
	int left = 0;

	*count = 0;
	for (u32 depth = 0; depth < BLOCKS_MAX && *count < LINE_PLACES - 1; depth++) {
		left = find_inner(&outer, address, &inner);
		if (left)
			break;
		if (dwarf_tag(&inner) == DW_TAG_inlined_subroutine)
			calls[(*count)++] = inner;
		outer = inner;
	}
	return left < 0 ? line_damage() : NULL;
}

/* The row of the line table, and where it begins; its file is NULL where there is none. */
static struct error *find_row(struct line_unit *u, u64 address, struct raw_place *ret, Dwarf_Addr *start)
{
	Dwarf_Lines *lines;
	size_t count;

	*ret = (struct raw_place){ .file = NULL };
	if (!dwarf_hasattr(&u->die, DW_AT_stmt_list))
		return NULL;
	if (dwarf_getsrclines(&u->die, &lines, &count))
		return line_damage();

	Dwarf_Line *line = dwarf_getsrc_die(&u->die, address);

	if (!line)
		return NULL;
	ret->file = dwarf_linesrc(line, NULL, NULL);
	if (!ret->file || dwarf_lineno(line, &ret->line) || dwarf_linecol(line, &ret->column) ||
	    dwarf_lineaddr(line, start))
		return line_damage();
	return NULL;
}

/*
 * What is between functions would seem to be of the last line of the one before, whose row begins in it or right at its
 * end. But there are functions of which only the lines are known: in assembly, and those that gcc found to be the same
 * as others.
 */
static bool follows_function(struct line_unit *u, u64 row)
{
	return dwarf_srclang(&u->die) != DW_LANG_Mips_Assembler &&
	       (span_table_find(&u->functions, row) || span_table_find(&u->functions, row - 1));
}

struct error *line_unit_find(struct line_unit *u, Dwarf *dwarf, u64 address, struct raw_place places[LINE_PLACES],
			     u32 *count)
{
	const struct span *span = span_table_find(&u->functions, address);
	Dwarf_Die function, calls[LINE_PLACES - 1];
	Dwarf_Files *files = NULL;
	Dwarf_Addr start = 0;
	u32 inlined = 0;

	*count = 0;

	struct error *err = find_row(u, address, &places[0], &start);

	// Line 0 is code of no line: the compiler's own.
	if (err || !places[0].file || !places[0].line)
		return err;
	if (!span && follows_function(u, start))
		return NULL;
	if (span) {
		if (!dwarf_offdie(dwarf, span->die, &function))
			return line_damage();
		err = find_calls(&function, address, calls, &inlined);
		if (err)
			return err;
		if (inlined && dwarf_getsrcfiles(&u->die, &files, NULL))
			return line_damage();
	}
	for (u32 i = 0; i < inlined; i++) {
		Dwarf_Die *call = &calls[inlined - 1 - i];

		places[i].function = dwarf_diename(call);
		places[i + 1] = call_of(call, files);
	}
	places[inlined].function = span ? dwarf_diename(&function) : NULL;
	*count = inlined + 1;
	return NULL;
}
