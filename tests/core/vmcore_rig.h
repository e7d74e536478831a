/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's memory, registers and VMCOREINFO, put together by hand: what core files are written of.
 * Depends on kernel/vmcore.h. Memory in two pieces, with a kernel's image in the first.
 */
#ifndef TESTS_CORE_VMCORE_RIG_H
#define TESTS_CORE_VMCORE_RIG_H

#include <stdlib.h>
#include <string.h>

#include "kernel/vmcore.h"

#define RIG_MIB (1ULL << 20)
#define RIG_PAGE_OFFSET 0xffff9a1a40000000ULL
#define RIG_HOLE_END (4ULL << 30)
#define RIG_SLIDE 0xa800000ULL
#define RIG_IMAGE (0xffffffff81000000ULL + RIG_SLIDE)
#define RIG_IMAGE_GPA (2 * RIG_MIB)
#define RIG_IMAGE_SIZE (1 * RIG_MIB)
#define RIG_LOW (4 * RIG_MIB)
#define RIG_SIZE (6 * RIG_MIB)

enum { RIG_CPUS = 2 };

/* phys_base: where the image would have address 0 of its map. */
static const char rig_info[] = "OSRELEASE=7.3.4-test\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff8b800000\n"
			       "NUMBER(phys_base)=-190840832\nNUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=a800000\n";

struct vmcore_rig {
	struct guest_memory memory;
	struct vmcore_cpu cpus[RIG_CPUS];
	struct vmcore core;
};

static inline struct vmcore_cpu rig_cpu(u32 i)
{
	const u64 n = 0x1000ULL * (i + 1);
	struct vmcore_cpu cpu = {
		.sregs.cs = { .selector = 0x33, .type = 11, .s = 1, .dpl = 3, .present = 1, .l = 1, .g = 1 },
		.sregs.ss = { .selector = 0x2b, .dpl = 3 },
		.sregs.gs.base = 0xffff888000000000ULL + n,
		.sregs.fs.base = 0x7f0000000000ULL + n,
		.sregs.tr.base = n + 1,
		.sregs.idt = { .base = 0xfffffe0000000000ULL, .limit = 0xfff },
		.sregs.gdt = { .base = 0xfffffe0000001000ULL, .limit = 0x7f },
		.sregs.cr0 = 0x80050033,
		.sregs.cr2 = n,
		.sregs.cr3 = 0x2000 + n,
		.sregs.cr4 = 0x750ef0,
		.kernel_gs_base = n,
		.pid = 100 + i,
	};
	u64 words[sizeof(cpu.regs) / 8];

	/* Each register another value. */
	for (size_t w = 0; w < ARRAY_SIZE(words); w++)
		words[w] = n + w;
	memcpy(&cpu.regs, words, sizeof(words));
	return cpu;
}

static inline struct error *vmcore_rig_init(struct vmcore_rig *r)
{
	struct error *err = guest_memory_init(&r->memory, RIG_SIZE, RIG_LOW, RIG_HOLE_END);

	if (err)
		return err;
	for (u32 i = 0; i < RIG_CPUS; i++)
		r->cpus[i] = rig_cpu(i);
	for (u64 gpa = 0; gpa < RIG_LOW; gpa += 0x10000)
		memcpy(guest_memory_at(&r->memory, gpa, 8), &gpa, 8);
	memset(guest_memory_at(&r->memory, RIG_HOLE_END + RIG_SIZE - RIG_LOW - 1, 1), 0x77, 1);
	r->core = (struct vmcore){
		.memory = &r->memory,
		.page_offset = RIG_PAGE_OFFSET,
		.image_start = RIG_IMAGE,
		.image_gpa = RIG_IMAGE_GPA,
		.image_size = RIG_IMAGE_SIZE,
		.info = rig_info,
		.info_size = sizeof(rig_info) - 1,
		.cpus = r->cpus,
		.cpu_count = RIG_CPUS,
	};
	return NULL;
}

static inline void vmcore_rig_deinit(struct vmcore_rig *r)
{
	guest_memory_deinit(&r->memory);
}

#endif
