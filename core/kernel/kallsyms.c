// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/kallsyms.h"

#include <string.h>

#include "kernel/symbol_set.h"

enum {
	INDEX_SIZE = KALLSYMS_TOKENS * sizeof(u16),
	MIN_GROUP = KALLSYMS_MARKED * 2, /* bytes of names from one marker to the next */
	MAX_GROUP = KALLSYMS_MARKED * (KALLSYMS_MAX_NAME + 2),
	MAX_PADDING = 7,
	SEQ_SIZE = 3,
	STEPS_A_BYTE = 4, /* of the search at most, for each byte of the window */
	MIN_STEPS = 1 << 20,
};

struct finder {
	struct symbol_window *w;
	const struct kallsyms_image *image;
	size_t tokens, index; /* where they are in the window */
	u64 steps; /* left */
	struct kallsyms *ret;
};

/* Where the names are, or may be; all in bytes of the window but the counts. */
struct names {
	u32 count;
	size_t count_at, at, end;
	size_t markers;
	u32 marker_count;
	size_t seqs; /* between markers and tokens; 0: none there */
};

static u32 get_u32(const struct finder *f, size_t at)
{
	return kallsyms_u32(f->w->data + at);
}

static u64 get_u64(const struct finder *f, size_t at)
{
	u64 v;

	memcpy(&v, f->w->data + at, sizeof(v));
	return v;
}

static u32 get_index(const struct finder *f, u32 token)
{
	u16 v;

	memcpy(&v, f->w->data + f->index + token * sizeof(v), sizeof(v));
	return v;
}

/* Takes n steps; false when that is too many. */
static bool step(struct finder *f, u64 n)
{
	f->steps -= n < f->steps ? n : f->steps;
	return f->steps;
}

static bool only_zeros(const struct finder *f, size_t from, size_t to)
{
	if (from > to || to - from > MAX_PADDING)
		return false;
	for (size_t i = from; i < to; i++)
		if (f->w->data[i])
			return false;
	return true;
}

// --- addresses ---

static bool has_negative(const struct kallsyms *k)
{
	u32 all = 0;

	for (u32 i = 0; i < k->count; i++)
		all |= kallsyms_u32(k->offsets + (size_t)i * 4);
	return all >> 31;
}

/* Ascending, in the image or the per-CPU data: of offsets that are something else, hardly two are so. */
static bool check_addresses(struct finder *f, const struct kallsyms *k)
{
	const struct kallsyms_image *image = f->image;
	u64 last = 0;

	for (u32 i = 0; i < k->count; i++) {
		bool moves;
		u64 address = kallsyms_address(k, i, &moves);
		bool within = moves ? address >= image->start && address <= image->end :
				      address <= image->percpu_size;

		if (!within || address < last || !step(f, 1))
			return false;
		last = address;
	}
	return true;
}

/* Offsets at that place of the window, and seqs at the other one. */
static bool take_offsets(struct finder *f, struct kallsyms *k, size_t at, size_t seqs)
{
	k->offsets = f->w->data + at;
	k->seqs = f->w->size - seqs >= (size_t)k->count * SEQ_SIZE && seqs < f->w->size ? f->w->data + seqs : NULL;
	k->absolute = k->layout != KALLSYMS_SELF && has_negative(k);
	return check_addresses(f, k);
}

static bool take_self(struct finder *f, struct kallsyms *k, size_t at)
{
	size_t end = at + (size_t)k->count * 4;

	if (end > f->w->size)
		return false;
	k->layout = KALLSYMS_SELF;
	k->base = f->w->virt + at;
	return take_offsets(f, k, at, end);
}

static bool take_behind(struct finder *f, struct kallsyms *k, size_t at, size_t align)
{
	size_t base = ALIGN_UP(at + (size_t)k->count * 4, align);

	if (base > f->w->size || f->w->size - base < sizeof(u64))
		return false;
	k->layout = KALLSYMS_BEHIND;
	k->base = get_u64(f, base);
	return take_offsets(f, k, at, base + sizeof(u64));
}

static struct error *take_before(struct finder *f, struct kallsyms *k, const struct names *n, bool *found)
{
	size_t size = ALIGN_UP((size_t)k->count * 4, (size_t)8) + sizeof(u64);
	struct error *err;

	if (n->count_at < size)
		return NULL;
	err = symbol_window_load(f->w, n->count_at - size);
	if (err)
		return err;
	k->layout = KALLSYMS_BEFORE;
	k->base = get_u64(f, n->count_at - sizeof(u64));
	*found = take_offsets(f, k, n->count_at - size, n->seqs ? n->seqs : f->w->size);
	return NULL;
}

static struct error *take_layout(struct finder *f, const struct names *n, bool *found)
{
	struct kallsyms k = {
		.count = n->count,
		.names = f->w->data + n->at,
		.names_size = n->end - n->at,
		.tokens = (const char *)f->w->data + f->tokens,
		.index = f->w->data + f->index,
	};
	size_t behind = f->index + INDEX_SIZE;
	struct error *err = NULL;

	// In this order: where relative_base would be, KALLSYMS_SELF has numbers that are far too small for one.
	*found = !n->seqs &&
		 (take_behind(f, &k, behind, 8) || take_behind(f, &k, behind, 4) || take_self(f, &k, behind));
	if (!*found)
		err = take_before(f, &k, n, found);
	if (*found)
		*f->ret = k;
	return err;
}

// --- names, from the markers behind them ---

/* All lengths from the first name on: they come by each marker, and end in front of the first one. */
static bool walk_names(struct finder *f, struct names *n)
{
	const u8 *start = f->w->data + n->at, *end = f->w->data + n->markers, *p = start;

	for (u32 i = 0; i < n->count; i++) {
		u32 marker = i / KALLSYMS_MARKED;

		if (!(i % KALLSYMS_MARKED) && (u64)(p - start) != get_u32(f, n->markers + (size_t)marker * 4))
			return false;

		const u8 *codes;
		u32 size = kallsyms_codes(p, end, &codes);

		if (!size || !step(f, 1))
			return false;
		p = codes + size;
	}
	n->end = p - f->w->data;
	return only_zeros(f, n->end, n->markers);
}

/* With seqs between markers and tokens: do that many fit exactly? */
static bool place_seqs(struct finder *f, struct names *n)
{
	size_t markers_end = n->markers + (size_t)n->marker_count * 4;

	for (size_t align = 4; align <= 8; align += 4) {
		size_t end = ALIGN_UP(markers_end, align) + (size_t)n->count * SEQ_SIZE;

		n->seqs = ALIGN_UP(markers_end, align);
		if (end <= f->tokens && ALIGN_UP(end, align) == f->tokens && only_zeros(f, end, f->tokens))
			return true;
	}
	return false;
}

/* The number of symbols right in front of the names, padded or not. */
static bool take_count(struct finder *f, struct names *n, bool seqs)
{
	size_t width = n->at % 8 || get_u32(f, n->at - 4) ? 4 : 8;

	if (n->at < width)
		return false;
	n->count_at = n->at - width;
	n->count = get_u32(f, n->count_at);
	n->seqs = 0;
	if (!n->count || (n->count - 1) / KALLSYMS_MARKED != n->marker_count - 1)
		return false;
	return !seqs || place_seqs(f, n);
}

/* Where the names begin: the last marker says it, but for the names behind it. */
static struct error *try_names(struct finder *f, size_t markers, u32 marker_count, bool seqs, bool *found)
{
	size_t last = get_u32(f, markers + (marker_count - 1) * 4);
	struct names n = { .markers = markers, .marker_count = marker_count };
	size_t behind = last + MAX_GROUP + MAX_PADDING + 8;
	size_t low = markers > behind ? ALIGN_UP(markers - behind, (size_t)4) : 4;
	struct error *err = NULL;

	if (markers < last + 2)
		return NULL;
	err = symbol_window_load(f->w, low > 8 ? low - 8 : 0);
	for (n.at = ALIGN_DOWN(markers - last - 2, (size_t)4); !err && !*found && n.at >= low; n.at -= 4) {
		if (!step(f, 1))
			break;
		if (take_count(f, &n, seqs) && walk_names(f, &n))
			err = take_layout(f, &n, found);
	}
	return err;
}

static bool check_markers(struct finder *f, size_t at, u32 count)
{
	for (u32 i = 1; i < count; i++) {
		u32 before = get_u32(f, at + (size_t)(i - 1) * 4), here = get_u32(f, at + (size_t)i * 4);

		if (here < before + MIN_GROUP || here - before > MAX_GROUP || !step(f, 1))
			return false;
	}
	return true;
}

/* Markers that begin there: as many as fit in front of the tokens, alone or with the seqs of their symbols. */
static struct error *try_markers(struct finder *f, size_t at, bool *found)
{
	const size_t each = 4 + KALLSYMS_MARKED * SEQ_SIZE; // bytes for each marker, with seqs
	const size_t missing = (KALLSYMS_MARKED - 1) * SEQ_SIZE; // of those when the last has one symbol
	size_t room = f->tokens - at;
	struct error *err = NULL;

	for (size_t n = room / 4; n && n + 1 >= room / 4 && !err && !*found; n--)
		if (only_zeros(f, at + n * 4, f->tokens) && check_markers(f, at, n))
			err = try_names(f, at, n, false, found);
	for (size_t n = (room + missing) / each; n && n * each + 2 * MAX_PADDING >= room && !err && !*found; n--)
		if (n * 4 < room && check_markers(f, at, n))
			err = try_names(f, at, n, true, found);
	return err;
}

static struct error *find_names(struct finder *f, bool *found)
{
	struct error *err = NULL;

	for (size_t at = f->tokens; at >= 8 && !err && !*found && step(f, 1);) {
		at -= 4;
		err = at < f->w->loaded ? symbol_window_load(f->w, at) : NULL;
		// The first name is at the beginning.
		if (!err && !get_u32(f, at))
			err = try_markers(f, at, found);
	}
	return err;
}

// --- tokens ---

/* Where the string ends that begins there; 0 when it does not, or with what cannot be printed. */
static size_t token_end(const struct finder *f, size_t at, size_t limit)
{
	for (size_t i = at; i < limit && i - at < KALLSYMS_MAX_NAME; i++) {
		u8 c = f->w->data[i];

		if (!c)
			return i;
		if (c <= ' ' || c > '~')
			return 0;
	}
	return 0;
}

static bool check_index(const struct finder *f)
{
	size_t at = f->tokens;

	for (u32 i = 0; i < KALLSYMS_TOKENS; i++) {
		if (get_index(f, i) != at - f->tokens)
			return false;

		size_t end = token_end(f, at, f->index);

		if (!end)
			return false;
		at = end + 1;
	}
	return only_zeros(f, at, f->index);
}

/* Tokens and index, by the place of the token "0": the index behind says how far up the table begins. */
static bool take_tokens(struct finder *f, size_t zero)
{
	size_t at = zero;

	for (u32 i = '0'; i < KALLSYMS_TOKENS; i++) {
		at = token_end(f, at, f->w->size);
		if (!at++)
			return false;
	}
	if (!step(f, at - zero))
		return false;
	for (size_t align = 4; align <= 8; align += 4) {
		f->index = ALIGN_UP(at, align);
		if (f->index > f->w->size || f->w->size - f->index < INDEX_SIZE)
			return false;

		u32 before = get_index(f, '0');

		if (before > zero || (zero - before) % 4)
			continue;
		f->tokens = zero - before;
		if (check_index(f))
			return true;
	}
	return false;
}

#define EACH_U16(v) ((v)*0x0001000100010001ULL)

/*
 * A word with four digits in a row, each a string: "0" "1" "2" "3", or beginning with the NUL in front of them.
 * All ten take 20 bytes, so that one such word lies in them, whatever their address.
 */
static bool has_digits(u64 word)
{
	return (word & EACH_U16(0xfff0)) == EACH_U16(0x0030) || (word & EACH_U16(0xf0ff)) == EACH_U16(0x3000);
}

/* Where "0" is, by a word that has_digits(): false when they do not follow on each other, or it is outside. */
static bool find_zero(u64 word, size_t at, size_t *ret)
{
	bool odd = !(word & 0xff);
	u64 digits = odd ? word >> 8 : word;
	u32 first = digits & 0xf;

	if (digits - EACH_U16(first + '0') != 0x0003000200010000)
		return false;
	*ret = at + odd - 2 * first;
	return at + odd >= 2 * first;
}

static struct error *try_digits(struct finder *f, size_t at, bool *tokens, bool *found)
{
	size_t zero;

	if (!find_zero(get_u64(f, at), at, &zero))
		return NULL;

	struct error *err = symbol_window_load(f->w, zero > UINT16_MAX ? zero - UINT16_MAX : 0);

	if (err || !take_tokens(f, zero))
		return err;
	*tokens = true;
	return find_names(f, found);
}

// From the end: kallsyms is linked last, so only the strings and the BTF are behind it.
struct error *kallsyms_find(struct symbol_window *w, const struct kallsyms_image *image, struct kallsyms *ret)
{
	struct finder f = { .w = w, .image = image, .ret = ret, .steps = MIN_STEPS + (u64)w->size * STEPS_A_BYTE };
	bool tokens = false, found = false;

	for (size_t at = ALIGN_DOWN(w->size, (size_t)8); at && f.steps && !(w->virt % 8);) {
		at -= 8;

		struct error *err = at < w->loaded ? symbol_window_load(w, at) : NULL;

		if (!err && has_digits(get_u64(&f, at)))
			err = try_digits(&f, at, &tokens, &found);
		if (err || found)
			return err;
	}
	if (tokens)
		return error_create(ERROR_FORMAT, "its kallsyms are damaged (tokens without names and offsets)");
	return error_create(ERROR_NOT_FOUND, "there are no kallsyms in it");
}
