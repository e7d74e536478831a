// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Page tables of any contents, walked and read through from any address. Beyond what the sanitizers see: a place is
 * memory for as far as it says, the same as the tables say it is; a read is what lies there, and a write changes
 * nothing else.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "kernel/view.h"
#include "x86/paging.h"

enum {
	PAGE = 4096,
	LOW_PAGES = 8,
	PAGES = 12, /* four lie behind the hole */
	MEMORY = PAGES * PAGE,
	MAX_STEPS = 200,
	ACCESS_MAX = 2 * PAGE,
};

#define HOLE_END (4ULL << 30)

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u64 gpa_of(u32 page)
{
	return page < LOW_PAGES ? (u64)page * PAGE : HOLE_END + (u64)(page - LOW_PAGES) * PAGE;
}

/* Every page is a table that leads to others: a walk that is not led elsewhere maps something. */
static void fill(u8 *ram)
{
	u64 *entries = (u64 *)ram;

	for (u32 i = 0; i < MEMORY / sizeof(u64); i++)
		entries[i] = gpa_of((i / 512 + i % 512 + 1) % PAGES) | 3;
}

/* Entries that lead somewhere more often than chance would have it. */
static u64 make_entry(struct reader *r)
{
	u8 shape = reader_get_u8(r);
	u64 entry = gpa_of(reader_get_u8(r) % PAGES) | (shape & 0x81);

	if (shape & 0x02) // anything at all
		entry = reader_get_u64(r);
	if (shape & 0x04) // a large page
		entry &= ~0x3fffffffULL | 0xfff;
	if (shape & 0x08)
		entry |= 1ULL << (shape >> 4) << 12;
	return entry | (shape & 0x70 ? 1 : 0);
}

/* An address whose indexes are small, so that tables that were written are hit. */
static u64 make_address(struct reader *r, const struct view *v)
{
	u8 shape = reader_get_u8(r);
	u64 address = 0;

	if (shape & 1)
		return reader_get_u64(r);
	if (shape & 2)
		return v->ranges[shape % VIEW_RANGES].start + reader_get_u16(r);
	for (u32 level = 0; level < v->levels; level++)
		address = address << 9 | (reader_get_u8(r) & 3);
	address = address << 12 | (reader_get_u16(r) & 0xfff);
	return shape & 4 ? address - 8 : address;
}

static void write_entry(const struct view *v, struct reader *r)
{
	u8 page = reader_get_u8(r) % PAGES, index = reader_get_u8(r) & 7;
	u64 *table = (u64 *)(v->memory->base + page * PAGE);
	u64 entry = make_entry(r);

	table[index < 4 ? index : 508 + index - 4] = entry;
}

static void check_place(const struct view *v, u64 root, u64 address)
{
	struct view_place p;
	struct paging_walk w = paging_walk(v->memory, root ? root : v->root, v->levels, address);
	struct error *err = view_translate(v, root, address, true, &p);

	if (!err != (w.end == PAGING_MAPPED && guest_memory_at(v->memory, w.gpa, 1)))
		abort();
	if (!err && (p.gpa != w.gpa || !p.left || p.left > 1ULL << p.page_shift || p.page_shift != w.page_shift ||
		     p.hva != guest_memory_at(v->memory, p.gpa, p.left)))
		abort();
	if (err && error_code(err) != ERROR_UNMAPPED)
		abort();
	error_destroy(err);
}

/* Byte by byte it is the same, or fails. */
static void check_read(const struct view *v, u64 root, u64 address, u32 size)
{
	static u8 bytes[ACCESS_MAX];
	struct error *err = view_read(v, root, address, bytes, size);
	bool fine = !err;

	error_destroy(err);
	for (u32 i = 0; i < size && fine; i++) {
		struct view_place p;

		err = view_translate(v, root, address + i, false, &p);
		if (err || *p.hva != bytes[i])
			abort();
	}
}

/* The tables may be among what is written: then only the sanitizers look. */
static void check_write(const struct view *v, u64 root, u64 address, u32 size, u8 value)
{
	static u8 bytes[ACCESS_MAX], before[MEMORY];

	memcpy(before, v->memory->base, MEMORY);
	memset(bytes, value, size);

	struct error *err = view_write(v, root, address, bytes, size);
	u32 changed = 0;

	for (u32 i = 0; i < MEMORY; i++)
		changed += before[i] != v->memory->base[i];
	if (changed > size)
		abort();
	error_destroy(err);
}

static void check_small(const struct view *v, struct reader *r, u64 root, u64 address)
{
	u8 what = reader_get_u8(r);
	u64 value = 0;
	char text[100];
	size_t length;
	struct error *err = view_read_scalar(v, address, 1u << (what & 3), &value);

	if (!err && (what & 3) < 3 && value >> (8u << (what & 3)))
		abort();
	error_destroy(err);
	if (what & 4)
		error_destroy(view_write_scalar(v, address, 1u << (what & 3), ~value));
	err = view_read_string(v, root, address, text, what % sizeof(text), &length);
	if (length > what % sizeof(text) || (!err && memchr(text, 0, length)))
		abort();
	error_destroy(err);
}

static void step(struct view *v, struct reader *r)
{
	u8 what = reader_get_u8(r);
	u64 root = what & 0x80 ? (u64)(what >> 4 & 7) * PAGE : 0;
	u64 address = make_address(r, v);

	switch (what & 7) {
	case 0:
	case 1:
	case 2:
		write_entry(v, r);
		break;
	case 3:
		check_place(v, root, address);
		break;
	case 4:
		check_read(v, root, address, reader_get_u16(r) % ACCESS_MAX);
		break;
	case 5:
		check_write(v, root, address, reader_get_u16(r) % ACCESS_MAX, what);
		break;
	case 6:
		check_small(v, r, root, address);
		break;
	case 7:
		error_destroy(what & 8 ? view_set_root(v, address & ~0xfffULL) : view_set_direct_map(v, address));
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static _Alignas(4096) u8 ram[MEMORY]; // the fuzzer runs one input at a time
	struct reader r = reader_init(data, size);
	struct guest_memory m = { .base = ram, .size = MEMORY, .region_count = 2 };
	struct placed_kernel kernel = {
		.place = { .phys = 2 * PAGE },
		.link_virt = 0xffffffff81000000,
		.span = 3 * PAGE,
		.levels = 4 + (reader_get_u8(&r) & 1),
	};
	struct view v;

	m.regions[0] = (struct guest_region){ 0, LOW_PAGES * PAGE, ram };
	m.regions[1] = (struct guest_region){ HOLE_END, MEMORY - LOW_PAGES * PAGE, ram + LOW_PAGES * PAGE };
	fill(ram);

	struct error *err = view_init(&v, &m, &kernel);

	if (err)
		abort();
	v.root = PAGE;
	for (u32 i = 0; i < MAX_STEPS && reader_left(&r); i++)
		step(&v, &r);
	return 0;
}
