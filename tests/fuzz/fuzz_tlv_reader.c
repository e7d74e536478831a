// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The frame reader under any byte stream, cut anywhere. The first byte picks the size of the pieces.
 * Beyond what the sanitizers see: every byte is accounted for, and the cut changes nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "tlv/codec.h"

enum { CAPACITY = WIRE_HEADER_SIZE + 512 };

struct sum {
	struct frame_stats stats;
	u64 payload_bytes, checksum;
};

static struct sum feed(const u8 *data, size_t size, size_t piece)
{
	u8 *buffer = malloc(CAPACITY);
	struct frame_reader r;
	struct sum sum = { 0 };
	size_t consumed = 0;

	frame_reader_init(&r, buffer, CAPACITY);
	while (consumed < size) {
		u8 *at;
		size_t n = frame_reader_space(&r, &at);
		struct frame f;

		if (!n)
			abort();
		n = n < piece ? n : piece;
		n = n < size - consumed ? n : size - consumed;
		memcpy(at, data + consumed, n);
		frame_reader_advance(&r, n);
		consumed += n;
		while (frame_reader_next(&r, &f)) {
			sum.payload_bytes += f.length;
			for (u32 i = 0; i < f.length; i++)
				sum.checksum = sum.checksum * 31 + ((const u8 *)f.payload)[i];
		}
	}
	sum.stats = r.stats;
	if (sum.payload_bytes + sum.stats.skipped_bytes > size)
		abort();
	free(buffer);
	return sum;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	if (!size)
		return 0;

	struct sum whole = feed(data + 1, size - 1, size);
	struct sum cut = feed(data + 1, size - 1, data[0] ? data[0] : 1);

	if (memcmp(&whole, &cut, sizeof(whole)))
		abort();

	/* The same bytes as one good frame's payload must come through, wherever they are cut. */
	if (size - 1 <= CAPACITY - WIRE_HEADER_SIZE) {
		u8 frame[CAPACITY];
		size_t n = frame_encode(frame, sizeof(frame), MSG_STDOUT, data + 1, (u32)(size - 1));
		struct sum one = feed(frame, n, data[0] ? data[0] : 1);

		if (one.stats.frames != 1 || one.payload_bytes != size - 1 || one.stats.skipped_bytes)
			abort();
	}
	return 0;
}
