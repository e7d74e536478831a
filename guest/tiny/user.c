// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/user.h"

#include "tiny/tiny.h"

enum {
	PAGE_USER = 1 << 2,
	TABLE_ENTRIES = 512,
	HUGE_SHIFT = 21, /* the loader maps pages of 2 MiB */
	LEVEL_SHIFT = 9,
	CR4_LA57 = 1 << 12,
	RFLAGS_IF = 1 << 9,
	IMAGE_GPA = 16 << 20,
};

static const u64 address_mask = 0x000ffffffffff000;

static void allow(u64 cr3, u32 levels, u64 address)
{
	u64 *table = (u64 *)(cr3 & address_mask);

	for (u32 level = levels; level-- > 0;) {
		u64 *entry = &table[address >> (HUGE_SHIFT + level * LEVEL_SHIFT) & (TABLE_ENTRIES - 1)];

		*entry |= PAGE_USER;
		table = (u64 *)(*entry & address_mask);
	}
}

void user_allow_memory(void)
{
	u64 cr3, cr4;

	__asm__ volatile("mov %%cr3, %0"
			 : "=r"(cr3));
	__asm__ volatile("mov %%cr4, %0"
			 : "=r"(cr4));

	u32 levels = cr4 & CR4_LA57 ? 4 : 3;

	allow(cr3, levels, 0);
	allow(cr3, levels, IMAGE_GPA);
	__asm__ volatile("mov %0, %%cr3"
			 :
			 : "r"(cr3)
			 : "memory");
}

struct tss {
	u32 reserved;
	u64 rsp[3];
	u64 zero[9]; /* no interrupt has a stack of its own */
	u32 zero_word;
} __attribute__((packed));

_Static_assert(sizeof(struct tss) == 0x68, "as the CPU has it");

/* A TSS is marked busy in the GDT by the CPU that has it: one of both for each. */
static struct {
	u64 gdt[8] __attribute__((aligned(16)));
	struct tss tss;
} segments[TINY_CPUS_MAX];

static void load_segments(u32 index)
{
	static const u64 flat[] = {
		[TINY_CS / 8] = 0x00af9b000000ffff,
		[TINY_DS / 8] = 0x00cf93000000ffff,
		[TINY_USER_DS / 8] = 0x00cff3000000ffff,
		[TINY_USER_CS / 8] = 0x00affb000000ffff,
	};
	u64 *gdt = segments[index].gdt, tss = (uintptr_t)&segments[index].tss;
	const struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) pointer = { sizeof(segments[index].gdt) - 1, (uintptr_t)gdt };

	for (u32 i = 0; i < ARRAY_SIZE(flat); i++)
		gdt[i] = flat[i];
	gdt[TINY_TSS / 8] = (sizeof(struct tss) - 1) | (tss & 0xffffff) << 16 | 0x89ULL << 40 | (tss >> 24) << 56;
	gdt[TINY_TSS / 8 + 1] = tss >> 32;
	__asm__ volatile("lgdt %0\n\t"
			 "ltr %w1"
			 :
			 : "m"(pointer), "r"(TINY_TSS)
			 : "memory");
}

void user_count(u32 index, volatile u64 *counter)
{
	u64 rsp;

	load_segments(index);
	__asm__ volatile("mov %%rsp, %0"
			 : "=r"(rsp));
	segments[index].tss.rsp[0] = rsp & ~15ULL;
	// The stack that an interrupt finds is this one, which nobody needs any more.
	__asm__ volatile("pushq	%0\n\t"
			 "pushq	$0\n\t"
			 "pushq	%1\n\t"
			 "pushq	%2\n\t"
			 "pushq	$1f\n\t"
			 "iretq\n"
			 "1:	incq	(%3)\n\t"
			 "jmp	1b"
			 :
			 : "i"(TINY_USER_DS), "i"(RFLAGS_IF), "i"(TINY_USER_CS), "D"(counter)
			 : "memory");
	__builtin_unreachable();
}
