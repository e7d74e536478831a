// SPDX-License-Identifier: GPL-2.0-or-later
/* Every constant of tlv/wire.h has its name in Lua, and every attribute its entry in the codec's table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "lua/wire_names.h"
#include "tlv/codec.h"

#define NAME_OF(name) #name,

static const char *const names[] = { WIRE_NAMES(NAME_OF) };

static bool is_listed(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], name))
			return true;
	return !strncmp(name, "ATTR_", 5) && attr_info_by_name(name + 5);
}

/* The header beside these sources: "tests/core/..." is below the directory that the tests run in. */
static FILE *open_header(void)
{
	static const char header[] = "../../core/tlv/wire.h";
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%.*s%s", (int)(strrchr(__FILE__, '/') + 1 - __FILE__), __FILE__, header);
	file = fopen(path, "re");
	if (!file)
		fail_msg("cannot open %s", path);
	return file;
}

static void every_constant_of_the_header_has_its_name(void **state)
{
	CLEANUP_FCLOSE FILE *file = open_header();
	char line[1024], name[64], missing[256] = "";
	u32 found = 0;

	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "\t%63[A-Z0-9_] =", name) != 1 || !strstr(line, " = "))
			continue;
		found++;
		if (!is_listed(name))
			snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), " %s", name);
	}
	if (*missing)
		fail_msg("not in core/lua/wire_names.h, or not in core/tlv/codec.c:%s", missing);
	/* Else the constants look otherwise by now, and were not seen. */
	assert_int_equal(found, ARRAY_SIZE(names) + attr_info_count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_constant_of_the_header_has_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
