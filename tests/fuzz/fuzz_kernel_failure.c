// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest's console over any bytes, in pieces whose sizes the input says. Beyond what the sanitizers see: what is
 * found does not depend on the pieces, is told of once, and its line can be printed.
 */
#include <stdlib.h>
#include <string.h>

#include "capture/kernel_failure.h"

static void expect(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct kernel_failure_scan whole = { 0 }, pieces = { 0 };
	size_t step = size ? data[0] % 17 + 1u : 1;
	bool found = kernel_failure_put(&whole, data, size);
	u32 times = 0;

	for (size_t at = 0; at < size; at += step) {
		size_t n = size - at < step ? size - at : step;
		u8 *own = malloc(n); // its very size: the sanitizer sees a read past it

		memcpy(own, data + at, n);
		times += kernel_failure_put(&pieces, own, n);
		free(own);
	}
	expect(found == (whole.found != KERNEL_FINE) && times == found && pieces.found == whole.found);
	if (!found)
		return 0;
	expect(!strcmp(whole.line, pieces.line) && *kernel_failure_name(whole.found));
	for (const char *s = whole.line; *s; s++)
		expect(*s >= ' ' && *s <= '~');
	return 0;
}
