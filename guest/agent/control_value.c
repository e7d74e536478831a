// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/control_value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cpu_list.h"

/* "64M" is 67108864; false when it is no number. */
static bool parse_number(const char *text, u64 *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	switch (*end) {
	case 'K':
	case 'k':
		*ret <<= 10;
		end++;
		break;
	case 'M':
	case 'm':
		*ret <<= 20;
		end++;
		break;
	case 'G':
	case 'g':
		*ret <<= 30;
		end++;
		break;
	}
	return !errno && !*end;
}

static bool word_matches(const char *control, const char *written, const char *got)
{
	struct cpu_list cpus_written, cpus_got;
	u64 a, b;

	if (!strcmp(written, got))
		return true;
	if (!strncmp(control, "cpuset.", 7) && cpu_list_parse(written, &cpus_written) &&
	    cpu_list_parse(got, &cpus_got))
		return !memcmp(&cpus_written, &cpus_got, sizeof(cpus_got));
	if (parse_number(written, &a) && parse_number(got, &b)) {
		/* Memory is counted in whole pages. */
		if (!strncmp(control, "memory.", 7))
			a -= a % (u64)sysconf(_SC_PAGESIZE);
		return a == b;
	}
	return *written == '+' && !strcmp(written + 1, got);
}

/*
 * The kernel adds to what was written ("max" reads "max 100000", "100" reads "default 100"), so the words
 * written must be found in order. Words that are not to be there ("-cpu") must not.
 */
bool control_value_matches(const char *control, const char *written, const char *got)
{
	char a[CONTROL_MAX], b[CONTROL_MAX], c[CONTROL_MAX];
	char *rest_a = a, *rest_b = b;

	if (strlen(written) >= sizeof(a) || strlen(got) >= sizeof(b))
		return false;
	strcpy(a, written);
	strcpy(b, got);
	if (strstr(got, "invalid") && !strstr(written, "invalid"))
		return false;
	if (!strtok_r(strcpy(c, written), " \n", &(char *){ NULL }))
		return !strtok_r(strcpy(c, got), " \n", &(char *){ NULL });
	for (char *want; (want = strtok_r(rest_a, " \n", &rest_a));) {
		char *word;

		if (*want == '-') {
			char *rest = strcpy(c, got);

			while ((word = strtok_r(rest, " \n", &rest)))
				if (!strcmp(word, want + 1))
					return false;
			continue;
		}
		while ((word = strtok_r(rest_b, " \n", &rest_b)) && !word_matches(control, want, word))
			;
		if (!word)
			return false;
	}
	return true;
}
