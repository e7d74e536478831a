// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a program of the guest may send to the agent's socket. What passes must be a capture's name that the
 * host takes too: whole, printable, of the length that the packet had.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/local.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	/* On the heap, and no longer than what a packet of that size fills: what is read beyond it is seen. */
	size_t fits = size < sizeof(struct local_request) ? size : sizeof(struct local_request);
	struct local_request *request = malloc(fits ? fits : 1);
	size_t head = offsetof(struct local_request, name);
	const char *wrong;
	bool good;

	memcpy(request, data, fits);
	wrong = local_request_check(request, size);
	good = size > head && size <= sizeof(*request) && request->kind == SNAPSHOT_CAPTURE;
	for (size_t i = head; good && i < size; i++)
		good = data[i] >= 0x20 && data[i] < 0x7f;
	if (good != !wrong)
		abort();
	free(request);
	return 0;
}
