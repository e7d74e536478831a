// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A file with DWARF, of any bytes; the seeds are small ones that are good. It is refused, or each address that is asked
 * for has an answer whose strings can be read, or an error that says that it is damaged.
 */
#include "kernel/lines.h"
#include "patches.h"

enum { ASKED = 48 };

/* Where the seeds have their code. */
#define CODE 0xffffffff81000000ULL

static void ask(struct lines *l, u64 address)
{
	struct line_place places[LINE_PLACES];
	size_t sum = 0;
	u32 count;
	struct error *err = lines_find(l, address, places, &count);

	if (err && error_code(err) != ERROR_FORMAT)
		abort();
	if (!err && count > LINE_PLACES)
		abort();
	for (u32 i = 0; !err && i < count; i++) {
		if (!i && !places[i].line)
			abort();
		sum += strlen(places[i].function) + strlen(places[i].file);
	}
	// The sum is what keeps the reads.
	if (sum == SIZE_MAX)
		abort();
	error_destroy(err);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	char path[32];
	int fd = open_bytes(data, size, path);
	struct lines *l;
	struct error *err = lines_open(path, size & 1 ? "01234567" : NULL, 8, &l);

	if (err && error_code(err) != ERROR_FORMAT && error_code(err) != ERROR_UNSUPPORTED)
		abort();
	if (!err) {
		for (u64 i = 0; i < ASKED; i++)
			ask(l, CODE + i * 3);
		ask(l, 0);
		ask(l, UINT64_MAX);
		lines_close(l);
	}
	error_destroy(err);
	close(fd);
	return 0;
}
