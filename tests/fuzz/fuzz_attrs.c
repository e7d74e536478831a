// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The attribute reader over any bytes. Beyond what the sanitizers see: what was read, written again and
 * read again is the same.
 */
#include <stdlib.h>
#include <string.h>

#include "tlv/codec.h"

static void write_again(struct attr_writer *w, const struct attr *a)
{
	u32 type = a->info->type;
	u64 values[64];
	size_t count;

	switch ((enum attr_kind)a->info->kind) {
	case ATTR_KIND_STRING:
		attr_put_bytes(w, type, a->value, a->length);
		break;
	case ATTR_KIND_U32:
		attr_put_u32(w, type, attr_u32(a));
		break;
	case ATTR_KIND_U64:
		attr_put_u64(w, type, attr_u64(a));
		break;
	case ATTR_KIND_S32:
		attr_put_s32(w, type, attr_s32(a));
		break;
	case ATTR_KIND_FLAG:
		attr_put_flag(w, type);
		break;
	case ATTR_KIND_PARAM:
		attr_put_param(w, type, attr_param(a).index, attr_param(a).value);
		break;
	case ATTR_KIND_U64_ARRAY:
		count = attr_array_count(a);
		if (count > ARRAY_SIZE(values))
			count = ARRAY_SIZE(values);
		for (size_t i = 0; i < count; i++)
			values[i] = attr_array_get(a, i);
		attr_put_u64_array(w, type, values, count);
		break;
	case ATTR_KIND_BYTES:
		attr_put_data(w, type, a->value, a->length);
		break;
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	u8 *copy = malloc(size + 1), *again = malloc(size + 1);
	struct attr_reader r = attr_reader_init(memcpy(copy, data, size), size);
	struct attr_writer w = attr_writer_init(again, size);
	struct attr a, b;
	size_t count = 0;

	while (attr_next(&r, &a)) {
		struct attr_reader one;
		size_t before = w.size;
		char text[16];

		count++;
		if (a.info->kind == ATTR_KIND_STRING)
			attr_string(&a, text, sizeof(text));
		write_again(&w, &a);
		if (w.failed)
			abort();
		one = attr_reader_init(again + before, w.size - before);
		if (!attr_next(&one, &b) || b.info != a.info || b.length > a.length ||
		    memcmp(a.value, b.value, b.length))
			abort();
	}
	free(copy);
	free(again);
	return 0;
}
