// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/view.h"

#include <string.h>

#include "kernel/view_recorded.h"
#include "x86/paging.h"

enum {
	RANGE_IMAGE, /* ranges: */
	RANGE_DIRECT, /* and behind it that of the memory's second region */

	PAGE = 4096,
	SAMPLES = 64, /* a region */
	STRING_STEP = 64, /* bytes that are looked at for a NUL at once: most names end in them */
};

_Static_assert(RANGE_DIRECT + GUEST_MEMORY_MAX_REGIONS == VIEW_RANGES, "a range for each region");

typedef unsigned long long ull;

/* --- its life --- */

static void next_generation(struct view *v)
{
	if (!++v->generation)
		v->generation = 1;
}

bool placed_kernel_fits(const struct placed_kernel *kernel, const struct guest_memory *memory)
{
	u64 slide = kernel->place.virt_slide;

	return guest_memory_at(memory, kernel->place.phys, kernel->span) &&
	       slide <= UINT64_MAX - kernel->link_virt &&
	       kernel->span <= UINT64_MAX - kernel->link_virt - slide;
}

struct error *view_init(struct view *v, const struct guest_memory *memory, const struct placed_kernel *kernel)
{
	u64 start = kernel->link_virt + kernel->place.virt_slide;

	*v = (struct view){ .generation = 1 };
	if (!placed_kernel_fits(kernel, memory))
		return error_create(ERROR_INVALID, "a kernel of 0x%llx bytes at 0x%llx, 0x%llx is not in the memory",
				    (ull)kernel->span, (ull)kernel->place.phys, (ull)start);
	v->memory = memory;
	v->levels = kernel->levels;
	v->slide = kernel->place.virt_slide;
	v->ranges[RANGE_IMAGE] = (struct view_range){
		.start = start,
		.size = kernel->span,
		.gpa = kernel->place.phys,
		.hva = guest_memory_at(memory, kernel->place.phys, kernel->span),
	};
	return NULL;
}

void view_freeze(struct view *v, u32 expirations)
{
	v->expirations = expirations;
	v->frozen = 1;
}

void view_thaw(struct view *v)
{
	if (!v->frozen)
		return;
	v->frozen = 0;
	next_generation(v);
}

void view_rewind(struct view *v)
{
	next_generation(v);
}

bool view_is_expired(const struct view *v)
{
	return v->frozen && v->expirations_now &&
	       __atomic_load_n(v->expirations_now, __ATOMIC_SEQ_CST) != v->expirations;
}

void view_end(struct view *v)
{
	v->memory = NULL;
	v->expirations_now = NULL;
	v->frozen = 0;
	memset(v->ranges, 0, sizeof(v->ranges));
	next_generation(v);
}

static struct error *check_use(const struct view *v)
{
	if (!v->memory)
		return error_create(ERROR_ENDED, "the machine has ended");
	if (view_is_expired(v))
		return error_create(ERROR_FREEZE_LIMIT, "freeze limit: the machine has been thawed");
	return NULL;
}

/* --- translation --- */

static struct error *not_mapped(const struct view *v, u64 address, const struct paging_walk *w)
{
	const char *name = paging_level_name(w->level, v->levels);

	switch (w->end) {
	case PAGING_NON_CANONICAL:
		return error_create(ERROR_UNMAPPED, "0x%llx is not mapped: with %u levels of paging it is no address",
				    (ull)address, v->levels);
	case PAGING_OUTSIDE:
		return error_create(
			ERROR_UNMAPPED,
			"0x%llx is not mapped: the walk ended at level %u (%s), whose table at 0x%llx is not memory",
			(ull)address, w->level, name, (ull)w->table);
	case PAGING_RESERVED:
		return error_create(
			ERROR_UNMAPPED,
			"0x%llx is not mapped: the walk ended at level %u (%s), entry 0x%llx has reserved bits",
			(ull)address, w->level, name, (ull)w->entry);
	case PAGING_MAPPED:
		return error_create(ERROR_UNMAPPED, "0x%llx is mapped to 0x%llx, where the guest has no memory",
				    (ull)address, (ull)w->gpa);
	case PAGING_ABSENT:
		break;
	}
	return error_create(ERROR_UNMAPPED, "0x%llx is not mapped: the walk ended at level %u (%s), entry 0x%llx",
			    (ull)address, w->level, name, (ull)w->entry);
}

static bool find_in_ranges(const struct view *v, u64 address, struct view_place *ret)
{
	for (u32 i = 0; i < VIEW_RANGES; i++) {
		const struct view_range *r = &v->ranges[i];
		u64 offset = address - r->start;

		if (offset >= r->size)
			continue;
		*ret = (struct view_place){ .gpa = r->gpa + offset, .hva = r->hva + offset, .left = r->size - offset };
		return true;
	}
	return false;
}

/* Of [gpa, gpa + size) as much as is memory. */
static u64 memory_from(const struct guest_memory *m, u64 gpa, u64 size)
{
	for (u32 i = 0; i < m->region_count; i++) {
		u64 offset = gpa - m->regions[i].gpa;

		if (offset < m->regions[i].size)
			return size < m->regions[i].size - offset ? size : m->regions[i].size - offset;
	}
	return 0;
}

static struct error *walk(const struct view *v, u64 root, u64 address, struct view_place *ret)
{
	struct paging_walk w = paging_walk(v->memory, root, v->levels, address);
	u64 page = w.end == PAGING_MAPPED ? 1ULL << w.page_shift : 0;
	u64 left = page ? memory_from(v->memory, w.gpa, page - (address & (page - 1))) : 0;

	if (!left)
		return not_mapped(v, address, &w);
	*ret = (struct view_place){
		.gpa = w.gpa,
		.hva = guest_memory_at(v->memory, w.gpa, left),
		.left = left,
		.page_shift = w.page_shift,
	};
	return NULL;
}

static struct error *walk_kernel(const struct view *v, u64 address, struct view_place *ret)
{
	if (!v->root)
		return error_create(ERROR_UNMAPPED, "0x%llx is not mapped: the kernel's page tables are not known yet",
				    (ull)address);
	return walk(v, v->root, address, ret);
}

static struct error *check_is_memory(const struct view *v, const char *what)
{
	if (!v->recorded)
		return NULL;
	return error_create(ERROR_UNSUPPORTED, "a record %s", what);
}

/* The machine is there. */
static struct error *translate(const struct view *v, u64 root, u64 address, struct view_place *ret)
{
	if (v->recorded)
		return view_find_recorded(v, root, address, ret);
	if (root)
		return walk(v, root, address, ret);
	return find_in_ranges(v, address, ret) ? NULL : walk_kernel(v, address, ret);
}

struct error *view_translate(const struct view *v, u64 root, u64 address, bool do_walk, struct view_place *ret)
{
	struct error *err = check_use(v);

	if (!err)
		err = check_is_memory(v, "has no physical addresses");
	if (err)
		return err;
	return do_walk && !root ? walk_kernel(v, address, ret) : translate(v, root, address, ret);
}

u64 view_gap(const struct view *v, u64 address)
{
	struct error *err = check_use(v);
	struct view_place place;

	if (err) {
		error_destroy(err);
		return UINT64_MAX;
	}
	if (v->recorded)
		return view_gap_recorded(v, address);
	if (find_in_ranges(v, address, &place))
		return 0;
	return v->root ? paging_gap(v->memory, v->root, v->levels, address) : UINT64_MAX;
}

/* --- setting it up --- */

/* Whether the tables say that an address lies there. *mapped false: they say nothing of it. */
static struct error *check_place(const struct view *v, u64 address, u64 gpa, bool *mapped)
{
	struct paging_walk w = paging_walk(v->memory, v->root, v->levels, address);

	*mapped = w.end == PAGING_MAPPED;
	if (!*mapped)
		return not_mapped(v, address, &w);
	if (w.gpa == gpa)
		return NULL;
	return error_create(ERROR_UNMAPPED, "the guest's page tables map 0x%llx to 0x%llx, not to 0x%llx",
			    (ull)address, (ull)w.gpa, (ull)gpa);
}

struct error *view_set_root(struct view *v, u64 address)
{
	struct error *err = check_use(v);
	struct view_range *image = &v->ranges[RANGE_IMAGE];
	u64 offset = address - image->start;
	u64 before = v->root;
	bool mapped;

	if (err)
		return err;
	if (offset >= image->size || image->size - offset < PAGE || address % PAGE)
		return error_create(ERROR_INVALID, "0x%llx cannot be the kernel's page table: not a page of its image",
				    (ull)address);
	v->root = image->gpa + offset;
	// What lies between them may be gone: what only the boot needed is unmapped.
	err = check_place(v, image->start, image->gpa, &mapped);
	if (!err)
		err = check_place(v, address, v->root, &mapped);
	if (err)
		v->root = before;
	return error_with_context(err, "0x%llx as the kernel's page table", (ull)address);
}

/* *mapped: whether any of the samples is. One that is not may be memory that the kernel keeps from itself. */
static struct error *check_region(const struct view *v, u64 start, const struct guest_region *region, bool *mapped)
{
	u64 step = ALIGN_UP(region->size / SAMPLES, PAGE);

	*mapped = false;
	for (u64 offset = 0; offset < region->size; offset += step) {
		bool sample_is_mapped;
		u64 gpa = region->gpa + offset;
		struct error *err = check_place(v, start + gpa, gpa, &sample_is_mapped);

		if (sample_is_mapped && err)
			return err;
		error_destroy(err);
		*mapped |= sample_is_mapped;
	}
	return NULL;
}

static struct error *set_direct_map(struct view *v, u64 start)
{
	const struct guest_memory *m = v->memory;
	struct view_range ranges[GUEST_MEMORY_MAX_REGIONS] = { 0 };

	for (u32 i = 0; i < m->region_count; i++) {
		const struct guest_region *r = &m->regions[i];
		bool mapped;
		struct error *err = check_region(v, start, r, &mapped);

		if (err)
			return err;
		if (mapped)
			ranges[i] = (struct view_range){ start + r->gpa, r->size, r->gpa, r->hva };
		else if (i == 0)
			return error_create(ERROR_UNMAPPED, "nothing of it is mapped");
	}
	memcpy(&v->ranges[RANGE_DIRECT], ranges, sizeof(ranges));
	return NULL;
}

struct error *view_set_direct_map(struct view *v, u64 start)
{
	const u64 upper_half = 1ULL << 63;
	struct error *err = check_use(v);

	if (err)
		return err;
	if (!v->root)
		return error_create(ERROR_INVALID, "the direct map is looked for before the kernel's page table");

	const struct guest_region *last = &v->memory->regions[v->memory->region_count - 1];

	if (!(start & upper_half) || start % PAGE || start > UINT64_MAX - (last->gpa + last->size))
		return error_create(ERROR_INVALID, "the direct map cannot start at 0x%llx", (ull)start);
	return error_with_context(set_direct_map(v, start), "0x%llx as the direct map's start", (ull)start);
}

/* --- accesses that the guest may race with --- */

static u64 load(const u8 *at, u32 size)
{
	switch (size) {
	case 1:
		return __atomic_load_n(at, __ATOMIC_RELAXED);
	case 2:
		return __atomic_load_n((const u16 *)at, __ATOMIC_RELAXED);
	case 4:
		return __atomic_load_n((const u32 *)at, __ATOMIC_RELAXED);
	default:
		return __atomic_load_n((const u64 *)at, __ATOMIC_RELAXED);
	}
}

static void store(u8 *at, u32 size, u64 value)
{
	switch (size) {
	case 1:
		__atomic_store_n(at, (u8)value, __ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n((u16 *)at, (u16)value, __ATOMIC_RELAXED);
		break;
	case 4:
		__atomic_store_n((u32 *)at, (u32)value, __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n((u64 *)at, value, __ATOMIC_RELAXED);
	}
}

/* The largest aligned word at the start of these bytes. */
static u32 word_at(const u8 *at, size_t size)
{
	u32 word = sizeof(u64);

	while (word > size || (uintptr_t)at % word)
		word /= 2;
	return word;
}

static void load_bytes(u8 *to, const u8 *from, size_t size)
{
	while (size) {
		u32 word = word_at(from, size);
		u64 value = load(from, word);

		memcpy(to, &value, word);
		to += word;
		from += word;
		size -= word;
	}
}

/* After a read: whether it has to be done again, before cover->end(). What was covered meanwhile is covered by now. */
static bool begin_uncover(const struct view *v)
{
	if (!v->cover)
		return false;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return v->cover->begin(v->cover->ctx);
}

static void load_uncovered(const struct view *v, u8 *to, const u8 *from, size_t size)
{
	load_bytes(to, from, size);
	if (!begin_uncover(v))
		return;
	load_bytes(to, from, size);
	v->cover->end(v->cover->ctx, from, to, size);
}

static void store_bytes(u8 *to, const u8 *from, size_t size)
{
	while (size) {
		u32 word = word_at(to, size);
		u64 value = 0;

		memcpy(&value, from, word);
		store(to, word, value);
		to += word;
		from += word;
		size -= word;
	}
}

/* --- reading and writing --- */

static struct error *check_span(const struct view *v, u64 address, size_t size)
{
	if (size && address > UINT64_MAX - (size - 1))
		return error_create(ERROR_UNMAPPED,
				    "0x%llx is not mapped: %zu bytes from there leave the address space",
				    (ull)address, size);
	return check_use(v);
}

static size_t piece_of(const struct view_place *place, size_t size)
{
	return size < place->left ? size : place->left;
}

struct error *view_read(const struct view *v, u64 root, u64 address, void *data, size_t size)
{
	struct error *err = check_span(v, address, size);
	u8 *to = data;

	while (!err && size) {
		struct view_place place = { 0 };

		err = translate(v, root, address, &place);
		if (err)
			break;

		size_t piece = piece_of(&place, size);

		load_uncovered(v, to, place.hva, piece);
		to += piece;
		address += piece;
		size -= piece;
	}
	return err;
}

/* from NULL: only looks whether every page is there. */
static struct error *write_pages(const struct view *v, u64 root, u64 address, const u8 *from, size_t size)
{
	while (size) {
		struct view_place place = { 0 };
		struct error *err = translate(v, root, address, &place);

		if (err)
			return err;

		size_t piece = piece_of(&place, size);

		if (from) {
			store_bytes(place.hva, from, piece);
			from += piece;
		}
		address += piece;
		size -= piece;
	}
	return NULL;
}

struct error *view_write(const struct view *v, u64 root, u64 address, const void *data, size_t size)
{
	struct error *err = check_span(v, address, size);

	if (!err)
		err = check_is_memory(v, "does not change");
	if (!err)
		err = write_pages(v, root, address, NULL, size);
	if (!err)
		err = write_pages(v, root, address, data, size);
	return err;
}

static struct error *check_scalar(const struct view *v, u64 address, u32 size)
{
	if (size != 1 && size != 2 && size != 4 && size != 8)
		return error_create(ERROR_INVALID, "a scalar of %u bytes", size);
	return check_use(v);
}

struct error *view_read_scalar(const struct view *v, u64 address, u32 size, u64 *ret)
{
	struct view_place place = { 0 };
	struct error *err = check_scalar(v, address, size);

	if (err)
		return err;
	if (address % size) {
		*ret = 0;
		return view_read(v, 0, address, ret, size);
	}
	err = translate(v, 0, address, &place);
	if (err)
		return err;
	// Two pieces of a record may meet in the middle of a word.
	if (place.left < size) {
		*ret = 0;
		return view_read(v, 0, address, ret, size);
	}
	*ret = load(place.hva, size);
	if (begin_uncover(v)) {
		*ret = load(place.hva, size);
		v->cover->end(v->cover->ctx, place.hva, (u8 *)ret, size);
	}
	return NULL;
}

struct error *view_write_scalar(const struct view *v, u64 address, u32 size, u64 value)
{
	struct view_place place = { 0 };
	struct error *err = check_scalar(v, address, size);

	if (!err)
		err = check_is_memory(v, "does not change");
	if (err)
		return err;
	if (address % size)
		return view_write(v, 0, address, &value, size);
	err = translate(v, 0, address, &place);
	if (!err)
		store(place.hva, size, value);
	return err;
}

struct error *view_read_string(const struct view *v, u64 root, u64 address, char *data, size_t max, size_t *length)
{
	struct error *err = check_use(v);
	const char *end = NULL;
	size_t at = 0;

	// No string goes on at address 0.
	if (address && max > -address)
		max = -address;
	while (!err && !end && at < max) {
		struct view_place place = { 0 };

		err = translate(v, root, address + at, &place);
		if (err)
			break;

		size_t piece = piece_of(&place, max - at < STRING_STEP ? max - at : STRING_STEP);

		load_bytes((u8 *)data + at, place.hva, piece);
		end = memchr(data + at, 0, piece);
		at = end ? (size_t)(end - data) : at + piece;
	}
	*length = at;
	return err;
}
