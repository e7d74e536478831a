// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A snapshot request's payload over any bytes. Beyond what the sanitizers see: what is accepted is printable,
 * ends, and says what the payload said.
 */
#include <stdlib.h>
#include <string.h>

#include "freeze/state.h"

static void expect(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct snapshot_request r;
	u8 *copy = malloc(size + !size); // its very size: the sanitizer sees a read past it
	bool ok;

	memcpy(copy, data, size);
	memset(&r, 0xa5, sizeof(r));
	ok = snapshot_request_parse(copy, size, &r);
	expect(!ok || size == sizeof(struct wire_snapshot_request));
	expect(ok == (r.tag[0] != '\0'));
	if (size == sizeof(struct wire_snapshot_request)) {
		expect(!memcmp(&r.request_id, data, 4));
		expect(!memcmp(&r.kind, data + 4, 4));
	}
	for (size_t i = 0; r.tag[i]; i++) {
		expect(i < WIRE_TAG_SIZE && r.tag[i] == (char)data[8 + i]);
		expect(r.tag[i] >= ' ' && r.tag[i] <= '~');
	}
	free(copy);
	return 0;
}
