// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/vmcore_notes.h"

#include <string.h>

enum { PRIVILEGE = 3 }; /* of a selector */

void take_prstatus(struct vmcore_cpu *cpu, const struct elf_prstatus *status)
{
	struct user_regs_struct r;

	_Static_assert(sizeof(r) == sizeof(status->pr_reg), "the general registers of a core file");
	memcpy(&r, &status->pr_reg, sizeof(r));
	cpu->pid = (u32)status->pr_pid;
	cpu->regs = (struct kvm_regs){
		.rax = r.rax,
		.rbx = r.rbx,
		.rcx = r.rcx,
		.rdx = r.rdx,
		.rsi = r.rsi,
		.rdi = r.rdi,
		.rsp = r.rsp,
		.rbp = r.rbp,
		.r8 = r.r8,
		.r9 = r.r9,
		.r10 = r.r10,
		.r11 = r.r11,
		.r12 = r.r12,
		.r13 = r.r13,
		.r14 = r.r14,
		.r15 = r.r15,
		.rip = r.rip,
		.rflags = r.eflags,
	};
	cpu->sregs = (struct kvm_sregs){
		.cs = { .selector = (u16)r.cs, .dpl = r.cs & PRIVILEGE },
		.ds.selector = (u16)r.ds,
		.es.selector = (u16)r.es,
		.fs = { .selector = (u16)r.fs, .base = r.fs_base },
		.gs = { .selector = (u16)r.gs, .base = r.gs_base },
		.ss = { .selector = (u16)r.ss, .dpl = r.ss & PRIVILEGE },
	};
}

static struct kvm_segment kvm_segment(const struct qemu_segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = (u16)s->selector,
		.type = s->flags >> SEGMENT_TYPE_SHIFT & 15,
		.s = s->flags >> SEGMENT_S_SHIFT & 1,
		.dpl = s->flags >> SEGMENT_DPL_SHIFT & PRIVILEGE,
		.present = s->flags >> SEGMENT_PRESENT_SHIFT & 1,
		.avl = s->flags >> SEGMENT_AVL_SHIFT & 1,
		.l = s->flags >> SEGMENT_L_SHIFT & 1,
		.db = s->flags >> SEGMENT_DB_SHIFT & 1,
		.g = s->flags >> SEGMENT_G_SHIFT & 1,
	};
}

void take_qemu_cpu(struct vmcore_cpu *cpu, const struct qemu_cpu *q)
{
	struct kvm_sregs *s = &cpu->sregs;

	s->cs = kvm_segment(&q->cs);
	s->ds = kvm_segment(&q->ds);
	s->es = kvm_segment(&q->es);
	s->fs = kvm_segment(&q->fs);
	s->gs = kvm_segment(&q->gs);
	s->ss = kvm_segment(&q->ss);
	s->ldt = kvm_segment(&q->ldt);
	s->tr = kvm_segment(&q->tr);
	s->gdt = (struct kvm_dtable){ .base = q->gdt.base, .limit = (u16)q->gdt.limit };
	s->idt = (struct kvm_dtable){ .base = q->idt.base, .limit = (u16)q->idt.limit };
	s->cr0 = q->cr[0];
	s->cr2 = q->cr[2];
	s->cr3 = q->cr[3];
	s->cr4 = q->cr[4];
	cpu->kernel_gs_base = q->kernel_gs_base;
}
