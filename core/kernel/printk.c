// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/printk.h"

#define STATE_SHIFT 62
#define ID_MASK (~(3ULL << STATE_SHIFT))

enum { MAX_BITS = 31, /* of the number of descriptors, and of the bytes of text */
       FINALIZED = 2, /* a record's state: it is whole, and has not been given up */
       ID_SIZE = 8 }; /* a block of text begins with its record's id */

/* A ring as it was found. */
struct ring {
	const struct view *view;
	const struct printk_layout *layout;
	u64 count_bits, size_bits;
	u64 descs, infos, text; /* addresses */
	u64 head, tail; /* ids */
};

static struct error *open_ring(const struct view *v, const struct printk_layout *l, struct ring *ret)
{
	u64 rb;
	struct error *err = view_read_scalar(v, l->prb, 8, &rb);
	const struct {
		u64 offset;
		u32 size;
		u64 *value;
	} words[] = {
		{ l->count_bits, 4, &ret->count_bits },
		{ l->size_bits, 4, &ret->size_bits },
		{ l->descs, 8, &ret->descs },
		{ l->infos, 8, &ret->infos },
		{ l->text, 8, &ret->text },
		{ l->head_id, 8, &ret->head },
		{ l->tail_id, 8, &ret->tail },
	};

	*ret = (struct ring){ .view = v, .layout = l };
	for (u32 i = 0; !err && i < ARRAY_SIZE(words); i++)
		err = view_read_scalar(v, rb + words[i].offset, words[i].size, words[i].value);
	if (err)
		return err;
	if (ret->count_bits > MAX_BITS || ret->size_bits > MAX_BITS)
		return error_create(ERROR_FORMAT, "the kernel's log has 2^%llu records and 2^%llu bytes",
				    (unsigned long long)ret->count_bits, (unsigned long long)ret->size_bits);
	return NULL;
}

/* Where a block lies whose text was put at begin, and ends before next. False: there is none. */
static bool find_block(const struct ring *r, u64 begin, u64 next, u64 *offset, u64 *size)
{
	u64 mask = (1ULL << r->size_bits) - 1;
	u64 wrap = begin >> r->size_bits, last_wrap = (next - 1) >> r->size_bits;

	if ((begin | next) % ID_SIZE)
		return false; // odd numbers: no text, or one that is lost
	// A block never lies across the ring's end: one that would is at its beginning, as a whole.
	*offset = wrap == last_wrap ? begin & mask : 0;
	*size = wrap == last_wrap ? next - begin : next & mask;
	return (wrap == last_wrap || wrap + 1 == last_wrap) && *size > ID_SIZE && *offset + *size <= mask + 1;
}

static struct error *read_text(const struct ring *r, u64 id, u64 desc, u64 info, struct printk_record *ret,
			       bool *is_there)
{
	const struct printk_layout *l = r->layout;
	u64 begin, next, length, offset, size, owner;
	struct error *err = view_read_scalar(r->view, desc + l->begin, 8, &begin);

	*is_there = false;
	if (!err)
		err = view_read_scalar(r->view, desc + l->next, 8, &next);
	if (!err)
		err = view_read_scalar(r->view, info + l->text_len, 2, &length);
	if (err || !find_block(r, begin, next, &offset, &size))
		return err;
	err = view_read_scalar(r->view, r->text + offset, 8, &owner);
	if (err || owner != id)
		return err;
	size -= ID_SIZE;
	if (length > size)
		length = size;
	ret->size = length < PRINTK_TEXT_MAX ? (u32)length : PRINTK_TEXT_MAX;
	ret->text[ret->size] = '\0';
	*is_there = true;
	return view_read(r->view, 0, r->text + offset + ID_SIZE, ret->text, ret->size);
}

static struct error *is_whole(const struct ring *r, u64 desc, u64 id, bool *ret)
{
	u64 state;
	struct error *err = view_read_scalar(r->view, desc + r->layout->state, 8, &state);

	*ret = !err && (state & ID_MASK) == id && state >> STATE_SHIFT == FINALIZED;
	return err;
}

/* *is_there: a running guest may have taken its place for another record meanwhile. */
static struct error *read_record(const struct ring *r, u64 id, struct printk_record *ret, bool *is_there)
{
	const struct printk_layout *l = r->layout;
	u64 index = id & ((1ULL << r->count_bits) - 1), facility;
	u64 desc = r->descs + index * l->desc_size, info = r->infos + index * l->info_size;
	struct error *err = is_whole(r, desc, id, is_there);

	if (err || !*is_there)
		return err;
	err = read_text(r, id, desc, info, ret, is_there);
	if (err || !*is_there)
		return err;
	err = view_read_scalar(r->view, info + l->seq, 8, &ret->seq);
	if (!err)
		err = view_read_scalar(r->view, info + l->facility, 1, &facility);
	if (err)
		return err;
	ret->facility = (u32)facility;
	return is_whole(r, desc, id, is_there);
}

struct error *printk_look_back(const struct view *v, const struct printk_layout *layout, u32 most,
			       bool (*look)(void *ctx, const struct printk_record *record), void *ctx)
{
	struct printk_record record;
	struct ring r;
	bool is_there, goes_on = true;
	struct error *err = open_ring(v, layout, &r);

	if (err)
		return err;
	if (most > 1ULL << r.count_bits)
		most = (u32)(1ULL << r.count_bits);
	// Ids wrap below the state's bits.
	for (u64 id = r.head & ID_MASK; most-- && goes_on; id = (id - 1) & ID_MASK) {
		err = read_record(&r, id, &record, &is_there);
		if (err)
			return err;
		if (is_there)
			goes_on = look(ctx, &record);
		if (id == (r.tail & ID_MASK))
			break;
	}
	return NULL;
}
