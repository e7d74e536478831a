// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/slots.h"

#include <string.h>

#include "kvm/kvm.h"

/* What every KVM has had. */
enum { SLOTS_LIMIT_OLD = 32 };

struct layout {
	u32 count;
	struct slot slots[SLOTS_MAX];
};

static void add(struct layout *l, const struct guest_region *r, u64 start, u64 end, u32 flags)
{
	if (start < end)
		l->slots[l->count++] = (struct slot){
			.gpa = start,
			.size = end - start,
			.hva = r->hva + (start - r->gpa),
			.flags = flags,
		};
}

static void lay_out(const struct slots *s, const u64 *pages, u32 count, struct layout *ret)
{
	u32 page = 0;

	ret->count = 0;
	for (u32 i = 0; i < s->memory->region_count; i++) {
		const struct guest_region *r = &s->memory->regions[i];
		u64 at = r->gpa, end = r->gpa + r->size;

		for (; page < count && pages[page] < end; page++) {
			add(ret, r, at, pages[page], 0);
			add(ret, r, pages[page], pages[page] + SLOTS_PAGE_SIZE, KVM_MEM_READONLY);
			at = pages[page] + SLOTS_PAGE_SIZE;
		}
		add(ret, r, at, end, 0);
	}
}

void slots_init(struct slots *s, const struct kvm *kvm, const struct vm *vm, const struct guest_memory *memory)
{
	int limit = kvm_capability(kvm, KVM_CAP_NR_MEMSLOTS);
	struct layout layout;

	*s = (struct slots){ .vm = vm, .memory = memory, .limit = limit > 0 ? (u32)limit : SLOTS_LIMIT_OLD };
	if (kvm_capability(kvm, KVM_CAP_READONLY_MEM) <= 0)
		s->limit = 0;
	lay_out(s, NULL, 0, &layout);
	s->count = layout.count;
	memcpy(s->slots, layout.slots, layout.count * sizeof(layout.slots[0]));
	for (u32 i = 0; i < s->count; i++)
		s->slots[i].number = i;
}

bool slots_is_protected(const struct slots *s, u64 gpa)
{
	u64 page = gpa & ~(u64)(SLOTS_PAGE_SIZE - 1);

	for (u32 i = 0; i < s->page_count; i++)
		if (s->pages[i] == page)
			return true;
	return false;
}

static bool is_same(const struct slot *a, const struct slot *b)
{
	return a->gpa == b->gpa && a->size == b->size && a->flags == b->flags;
}

/* Both are by address. */
static bool find(const struct slot *slots, u32 count, const struct slot *wanted, u32 *number)
{
	for (u32 i = 0; i < count; i++) {
		if (!is_same(&slots[i], wanted))
			continue;
		*number = slots[i].number;
		return true;
	}
	return false;
}

static u32 free_number(const bool *used)
{
	u32 number = 0;

	while (used[number])
		number++;
	return number;
}

/* Those that stay are not touched. s->slots is what there is at any time, in no order. */
static struct error *apply(struct slots *s, const struct layout *wanted)
{
	bool used[SLOTS_MAX + 1] = { false };
	struct error *err = NULL;
	u32 ignored;

	// All that goes before the first that comes: none may overlap another.
	for (u32 i = s->count; !err && i-- > 0;) {
		if (find(wanted->slots, wanted->count, &s->slots[i], &ignored)) {
			used[s->slots[i].number] = true;
			continue;
		}
		err = vm_set_slot(s->vm, s->slots[i].number, s->slots[i].gpa, 0, NULL, 0);
		if (!err)
			s->slots[i] = s->slots[--s->count];
	}
	for (u32 i = 0; !err && i < wanted->count; i++) {
		struct slot slot = wanted->slots[i];

		if (find(s->slots, s->count, &slot, &ignored))
			continue;
		slot.number = free_number(used);
		err = vm_set_slot(s->vm, slot.number, slot.gpa, slot.size, slot.hva, slot.flags);
		if (err)
			continue;
		used[slot.number] = true;
		s->slots[s->count++] = slot;
	}
	return err;
}

static struct error *check_pages(const struct slots *s, const u64 *pages, u32 count)
{
	if (count > SLOTS_MAX_PAGES)
		return error_create(ERROR_UNSUPPORTED, "%u pages cannot be watched at once, at most %d", count,
				    SLOTS_MAX_PAGES);
	for (u32 i = 0; i < count; i++)
		if (pages[i] % SLOTS_PAGE_SIZE || (i && pages[i] <= pages[i - 1]) ||
		    !guest_memory_at(s->memory, pages[i], SLOTS_PAGE_SIZE))
			return error_create(ERROR_INVALID, "0x%llx is not a page that can be protected",
					    (unsigned long long)pages[i]);
	return NULL;
}

struct error *slots_protect(struct slots *s, const u64 *pages, u32 count, bool *broken)
{
	struct layout wanted, before;
	struct error *err = check_pages(s, pages, count);

	*broken = false;
	if (err)
		return err;
	lay_out(s, pages, count, &wanted);
	if (count && wanted.count > s->limit)
		return error_create(ERROR_UNSUPPORTED, "this KVM cannot protect %u pages: it has %u memory slots",
				    count, s->limit);
	lay_out(s, s->pages, s->page_count, &before);
	err = apply(s, &wanted);
	if (err) {
		struct error *back = apply(s, &before);

		*broken = back;
		error_destroy(back);
		return err;
	}
	if (count)
		memmove(s->pages, pages, count * sizeof(pages[0]));
	s->page_count = count;
	return NULL;
}

struct error *slots_reset(struct slots *s)
{
	static const struct layout nothing;
	struct layout all;
	struct error *err;

	lay_out(s, s->pages, s->page_count, &all);
	// All out before the first comes in: KVM forgets everything with each that goes.
	err = apply(s, &nothing);
	return err ? err : apply(s, &all);
}
