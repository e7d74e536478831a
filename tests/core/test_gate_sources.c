// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reads the tree's sources: nothing outside core/freeze/gate.c touches a gate's atomic. Whoever did would open
 * or take a gate without a guard, and the day its thread unwinds no machine is ever frozen again.
 */
#include <ctype.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/types.h"

#define MEMBER "held_by_guard"

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

// The next place where the word stands by itself, or NULL.
static const char *find_word(const char *text, const char *end, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = text; p + n <= end; p++)
		if (!memcmp(p, word, n) && (p == text || !is_word(p[-1])) && (p + n == end || !is_word(p[n])))
			return p;
	return NULL;
}

// gate, c->gate, other_gate: what a struct gate is called in this tree.
static bool names_a_gate(const char *text, const char *end)
{
	static const char name[] = "gate";

	for (const char *p = text; p + 4 <= end; p++)
		if (!memcmp(p, name, 4) && (p == text || p[-1] == '_' || !is_word(p[-1])) &&
		    (p + 4 == end || !is_word(p[4])))
			return true;
	return false;
}

// Past the parenthesis that closes the one at text.
static const char *skip_parentheses(const char *text, const char *end)
{
	int depth = 0;

	for (const char *p = text; p < end; p++) {
		depth += *p == '(';
		depth -= *p == ')';
		if (!depth)
			return p + 1;
	}
	return end;
}

// A call that writes memory behind the type's back: atomics of every kind, memset(), memcpy().
static bool is_writing_call(const char *name)
{
	static const char *const prefixes[] = { "__atomic_", "__sync_", "atomic_", "mem", "bzero", "explicit_bzero" };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

// Where the text touches a gate, or NULL.
static const char *find_offence(const char *text, size_t size)
{
	const char *end = text + size;
	const char *member = find_word(text, end, MEMBER);

	if (member)
		return member;
	for (const char *p = text; p < end; p++) {
		bool word_starts = is_word(*p) && (p == text || !is_word(p[-1]));
		const char *q = p;

		while (word_starts && q < end && is_word(*q))
			q++;
		if (word_starts && q < end && *q == '(' && is_writing_call(p) &&
		    names_a_gate(q, skip_parentheses(q, end)))
			return p;
		// A gate made anew is an open one.
		if (!strncmp(p, "(struct gate)", 13))
			return p;
		// A cast of its address to something else.
		if (!strncmp(p, "*)&", 3) && names_a_gate(p, p + strcspn(p, ";,")))
			return p;
	}
	return NULL;
}

// What nftw() found; it has no argument to pass on.
static struct {
	const char *root;
	u32 files, offences;
	bool in_gate_c, in_gate_h;
	char first[PATH_MAX + 200];
} found;

static char *read_source(const char *path, size_t *size)
{
	CLEANUP_FCLOSE FILE *f = fopen(path, "r");
	struct stat st;

	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &st), 0);

	char *text = calloc(1, (size_t)st.st_size + 1);

	assert_non_null(text);
	*size = fread(text, 1, (size_t)st.st_size, f);
	return text;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

static void note_offence(const char *path, const char *text, const char *at)
{
	u32 line = 1;

	for (const char *p = text; p < at; p++)
		line += *p == '\n';
	if (!found.offences++)
		snprintf(found.first, sizeof(found.first), "%s:%u: %.*s", path, line, (int)strcspn(at, "\n"), at);
}

static int look_at(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const char *name = path + strlen(found.root) + 1;

	if (type != FTW_F || (!ends_with(path, ".c") && !ends_with(path, ".h")))
		return 0;

	size_t size;
	CLEANUP_FREE char *text = read_source(path, &size);

	const char *from = text, *member = find_word(text, text + size, MEMBER);

	found.files++;
	// All would be looked at in vain if the member had another name by now.
	if (!strcmp(name, "core/freeze/gate.c")) {
		found.in_gate_c = member;
		return 0;
	}
	// It declares it, once.
	if (!strcmp(name, "core/freeze/gate.h") && member) {
		found.in_gate_h = true;
		from = member + strlen(MEMBER);
	}
	// The planted ones are below.
	if (!strcmp(name, "tests/core/test_gate_sources.c"))
		return 0;

	const char *at = find_offence(from, size - (size_t)(from - text));

	if (at)
		note_offence(path, text, at);
	return 0;
}

// guest/ is other programs, which know no gate (guest/tiny has its own, the processor's).
static void look_at_tree(const char *root)
{
	static const char *const folders[] = { "core", "tests", "scripts" };
	char path[PATH_MAX];

	memset(&found, 0, sizeof(found));
	found.root = root;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, folders[i]);
		assert_int_equal(nftw(path, look_at, 16, FTW_PHYS), 0);
	}
}

static void find_root(char root[PATH_MAX])
{
	snprintf(root, PATH_MAX, "%s", __FILE__);
	for (int up = 0; up < 3; up++) {
		char *slash = strrchr(root, '/');

		// "tests/core/..." is below the directory that the tests run in.
		if (!slash) {
			assert_int_equal(up, 2);
			strcpy(root, ".");
			return;
		}
		*slash = '\0';
	}
}

static void nothing_outside_gate_c_touches_the_atomic(void **state)
{
	char root[PATH_MAX];

	find_root(root);
	look_at_tree(root);
	if (found.offences)
		fail_msg("%u files go past the guard: use gate_try_acquire() and GATE_GUARD; %s", found.offences,
			 found.first);
	assert_true(found.in_gate_c);
	assert_true(found.in_gate_h);
	assert_true(found.files > 100);
}

static void each_way_to_touch_it_is_found(void **state)
{
	static const char *const offenders[] = {
		"c->gate.held_by_guard = false;",
		"__atomic_store_n(&c->gate, false, __ATOMIC_RELEASE);",
		"if (__atomic_exchange_n((bool *)&machine->gate, true, __ATOMIC_ACQ_REL))",
		"\t__atomic_store_n(\n\t\t(bool *)(&gate),\n\t\tfalse, __ATOMIC_RELEASE);",
		"__sync_lock_release(&c->gate);",
		"atomic_store(&other_gate, false);",
		"memset(&m->gate, 0, sizeof(m->gate));",
		"memcpy(&c->gate, &open, 1);",
		"c->gate = (struct gate){ 0 };",
		"*(bool *)&c->gate = false;",
	};

	for (size_t i = 0; i < ARRAY_SIZE(offenders); i++)
		if (!find_offence(offenders[i], strlen(offenders[i])))
			fail_msg("not found: %s", offenders[i]);
}

static void what_uses_the_gate_as_it_should_is_left_alone(void **state)
{
	static const char *const fair[] = {
		"GATE_GUARD struct gate_guard gate = { 0 };\nif (!gate_try_acquire(&c->gate, &gate))\n\treturn;",
		"struct gate gate;",
		"if (gate_is_held(&c->gate))",
		"__atomic_load_n(&c->frozen, __ATOMIC_ACQUIRE); gate_guard_release(&gate);",
		"__atomic_fetch_add(&delegate, 1, __ATOMIC_RELAXED);",
		"memset(&investigated, 0, gates);",
		"(struct gate_guard){ 0 }",
	};

	for (size_t i = 0; i < ARRAY_SIZE(fair); i++)
		if (find_offence(fair[i], strlen(fair[i])))
			fail_msg("found, wrongly: %s", fair[i]);
}

static void write_file(const char *root, const char *name, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", root, name);

	CLEANUP_FCLOSE FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void an_offender_planted_in_a_tree_is_found_with_its_line(void **state)
{
	static const char *const folders[] = { "core", "core/freeze", "core/machine", "tests", "scripts" };
	char root[] = "/tmp/gate-sources-XXXXXX", path[PATH_MAX];

	assert_non_null(mkdtemp(root));
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, folders[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	write_file(root, "core/freeze/gate.c", "__atomic_store_n(&gate->held_by_guard, false, __ATOMIC_RELEASE);\n");
	write_file(root, "core/freeze/gate.h", "struct gate {\n\tbool held_by_guard;\n};\n");
	write_file(root, "core/machine/fair.c", "gate_guard_release(&guard);\n");
	look_at_tree(root);
	assert_int_equal(found.offences, 0);
	assert_int_equal(found.files, 3);
	// The same name elsewhere is another file.
	write_file(root, "core/machine/gate.c", "\n\n__atomic_store_n(&m->gate, 0, __ATOMIC_RELEASE);\n");
	look_at_tree(root);
	assert_int_equal(found.offences, 1);
	assert_non_null(strstr(found.first, "core/machine/gate.c:3: __atomic_store_n(&m->gate"));
	write_file(root, "core/freeze/gate.h", "bool held_by_guard;\n#define OPEN(g) ((g)->held_by_guard = 0)\n");
	write_file(root, "tests/helper.h", "gate.held_by_guard\n");
	write_file(root, "scripts/notes.txt", "gate.held_by_guard\n");
	look_at_tree(root);
	assert_int_equal(found.offences, 3);
	assert_int_equal(nftw(root, remove_one, 16, FTW_PHYS | FTW_DEPTH), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_outside_gate_c_touches_the_atomic),
		cmocka_unit_test(each_way_to_touch_it_is_found),
		cmocka_unit_test(what_uses_the_gate_as_it_should_is_left_alone),
		cmocka_unit_test(an_offender_planted_in_a_tree_is_found_with_its_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
