// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A kernel's log over any bytes: the input is the memory that the ring lies in. Beyond what the sanitizers see: no
 * more records than were asked for, and each text is terminated where it ends.
 */
#include <stdlib.h>
#include <string.h>

#include "kernel/printk.h"

enum { MOST = 64 };

#define START 0xffffffff82000000ULL

static const struct printk_layout layout = {
	.prb = START,
	.count_bits = 0,
	.descs = 8,
	.infos = 16,
	.head_id = 24,
	.tail_id = 32,
	.size_bits = 40,
	.text = 48,
	.desc_size = 24,
	.state = 0,
	.begin = 8,
	.next = 16,
	.info_size = 16,
	.seq = 0,
	.text_len = 8,
	.facility = 10,
};

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static bool look(void *ctx, const struct printk_record *record)
{
	u32 *left = ctx;

	expect((*left)-- > 0 && record->size <= PRINTK_TEXT_MAX && !record->text[record->size]);
	return record->facility != 7;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct {
		u64 prb, count_bits, descs, infos, head, tail, size_bits, text;
	} head = { .prb = START + 8 };
	size_t all = sizeof(head) + size;
	u8 *own = malloc(all); // its very size: the sanitizer sees a read past it
	struct view_segment segment = { .address = START, .size = all, .data = own };
	struct view v;
	u32 left = MOST;

	// The ring is in there, or it would take years to find one; what it has is the input's.
	if (size >= 8) {
		head.count_bits = data[0];
		head.size_bits = data[1];
		head.descs = START + data[2] * 8;
		head.infos = START + data[3] * 8;
		head.text = START + data[4] * 8;
		head.head = data[5];
		head.tail = data[6];
	}
	memcpy(own, &head, sizeof(head));
	memcpy(own + sizeof(head), data, size);
	view_init_recorded(&v, &segment, 1, 0);
	error_destroy(printk_look_back(&v, &layout, MOST, look, &left));
	free(own);
	return 0;
}
