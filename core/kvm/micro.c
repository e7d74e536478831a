// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/micro.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "kvm/memory.h"
#include "kvm/run_limit.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"

/* The micro guest's memory, mapped one to one by a single 2 MiB page that user mode may use too. */
enum {
	PML4 = 0x1000,
	PDPT = 0x2000,
	PAGE_DIRECTORY = 0x3000,
	GDT = 0x4000,
	IDT = 0x5000,
	TSS = 0x6000,
	KERNEL_STACK = 0x8000, /* grows down */
	CODE = 0x9000,
	DATA = 0xb000, /* 64-byte aligned, zero */
	USER_STACK = 0xd000, /* grows down */
	MEMORY_SIZE = 2 << 20,
};

/* Selectors in the order that SYSCALL and SYSRET want: user data, then user code. */
enum {
	SEL_CODE = 0x08,
	SEL_DATA = 0x10,
	SEL_USER_DATA = 0x1b,
	SEL_USER_CODE = 0x23,
	SEL_TSS = 0x28,
};

enum {
	ANSWER_PORT = 0xf4,
	ANSWER_GOOD = 0x600d,
	ANSWER_FAULT = 0xbad,
};

#define STR_(x) #x
#define STR(x) STR_(x)

/*
 * All guests as one block of position-independent code, copied to CODE. Each ends by writing its
 * answer (eax) to ANSWER_PORT. The asm names its constants itself: C's enums do not reach it.
 */
__asm__(".pushsection .rodata, \"a\"\n"
	".set DATA, 0xb000\n"
	".set KERNEL_STACK, 0x8000\n"
	".set USER_STACK, 0xd000\n"
	".balign 16\n"
	"micro_block:\n"

	"micro_plain:\n"
	"	movl $0x5ffe, %ebx\n"
	"	movl %ebx, DATA\n"
	"	movl DATA, %eax\n"
	"	addl $15, %eax\n"
	"	jmp answer\n"

	// The handler answers for a good return address only: just behind the one-byte INT3.
	"micro_int3:\n"
	"	xorl %eax, %eax\n"
	"	int3\n"
	"after_int3:\n"
	"	jmp answer\n"
	"on_int3:\n"
	"	leaq after_int3(%rip), %rbx\n"
	"	cmpq %rbx, (%rsp)\n"
	"	jne on_fault\n"
	"	movl $0x600d, %eax\n"
	"	iretq\n"

	"micro_sse:\n"
	"	movl $0x3006, %eax\n"
	"	cvtsi2sd %eax, %xmm0\n"
	"	addsd %xmm0, %xmm0\n" // 0x600c
	"	cvttsd2si %xmm0, %eax\n"
	"	incl %eax\n"
	"	jmp answer\n"

	// Save xmm0 with a number in it, clear it, restore it. XCR0 is set by the host: x87 and SSE.
	"micro_xsave:\n"
	"	movl $0x600d, DATA\n"
	"	movdqa DATA, %xmm0\n"
	"	movl $3, %eax\n"
	"	xorl %edx, %edx\n"
	"	xsave DATA + 64\n"
	"	pxor %xmm0, %xmm0\n"
	"	xrstor DATA + 64\n"
	"	movd %xmm0, %eax\n"
	"	jmp answer\n"

	"micro_popcnt:\n"
	"	movl $0xf0ff, %eax\n"
	"	popcnt %eax, %eax\n"
	"	addl $0x6001, %eax\n" // 12 bits are set
	"	jmp answer\n"

	"micro_cmpxchg16b:\n"
	"	xorl %eax, %eax\n"
	"	xorl %edx, %edx\n"
	"	movl $0x6000, %ebx\n"
	"	movl $0xd, %ecx\n"
	"	lock cmpxchg16b DATA\n"
	"	jnz on_fault\n"
	"	movl DATA, %eax\n"
	"	orl DATA + 8, %eax\n"
	"	jmp answer\n"

	/*
	 * To user mode, SYSCALL from there, look at CS and at a control register in the handler, SYSRET,
	 * and #UD from user mode: its frame must say that user mode is where it came from.
	 */
	"micro_syscall:\n"
	"	pushq $0x1b\n"
	"	pushq $USER_STACK\n"
	"	pushq $2\n"
	"	pushq $0x23\n"
	"	leaq user(%rip), %rax\n"
	"	pushq %rax\n"
	"	iretq\n"
	"user:\n"
	"	xorl %ebx, %ebx\n"
	"	syscall\n"
	"after_syscall:\n"
	"	ud2\n"
	"on_syscall:\n"
	"	movl %cs, %eax\n"
	"	testl $3, %eax\n"
	"	jnz on_fault\n"
	"	movq %cr0, %rax\n" // #GP in user mode
	"	leaq after_syscall(%rip), %rax\n"
	"	cmpq %rax, %rcx\n"
	"	jne on_fault\n"
	"	movl $0x5fea, %ebx\n"
	"	sysretq\n"
	"on_ud:\n"
	"	movq 8(%rsp), %rax\n" // CS: 0x23
	"	addl %ebx, %eax\n"
	"	jmp answer\n"

	// What the host watches ends these before they answer.
	"micro_data_watchpoint:\n"
	"	movl $1, DATA\n"
	"	nop\n"
	"	nop\n"
	"	jmp on_fault\n"

	"micro_code_breakpoint:\n"
	"	nop\n"
	"watched_code:\n"
	"	nop\n"
	"	nop\n"
	"	jmp on_fault\n"

	"micro_soft_breakpoint:\n"
	"	nop\n"
	"planted_code:\n"
	"	int3\n"
	"	jmp on_fault\n"

	"micro_spin:\n"
	"	jmp micro_spin\n"

	"on_fault:\n"
	"	movl $0xbad, %eax\n"
	"answer:\n"
	"	outl %eax, $0xf4\n"
	"	hlt\n"
	"	jmp answer\n"
	"micro_block_end:\n"
	".popsection\n");

extern const u8 micro_block[], micro_block_end[], micro_plain[], micro_int3[], micro_sse[], micro_xsave[],
	micro_popcnt[], micro_cmpxchg16b[], micro_syscall[], micro_data_watchpoint[], micro_code_breakpoint[],
	micro_soft_breakpoint[], micro_spin[], on_int3[], on_ud[], on_fault[], on_syscall[], watched_code[],
	planted_code[];

/* Where a label of the block is in the guest. */
static u64 guest_address(const u8 *label)
{
	return CODE + (u64)(label - micro_block);
}

enum {
	VECTOR_INT3 = 3,
	VECTOR_UD = 6,
};
enum {
	CPUID1_ECX_CMPXCHG16B = 1 << 13,
	CPUID1_ECX_POPCNT = 1 << 23,
	CPUID1_ECX_XSAVE = 1 << 26,
};

static const struct micro {
	const u8 *entry;
	const u8 *handler; /* of vector; every other one is a fault */
	u32 vector;
	u32 needs; /* a bit of CPUID 1 ECX: a processor without it passes unasked */
} micros[MICRO_COUNT] = {
	[MICRO_PLAIN] = { .entry = micro_plain },
	[MICRO_INT3] = { .entry = micro_int3, .vector = VECTOR_INT3, .handler = on_int3 },
	[MICRO_SSE] = { .entry = micro_sse },
	[MICRO_XSAVE] = { .entry = micro_xsave, .needs = CPUID1_ECX_XSAVE },
	[MICRO_POPCNT] = { .entry = micro_popcnt, .needs = CPUID1_ECX_POPCNT },
	[MICRO_CMPXCHG16B] = { .entry = micro_cmpxchg16b, .needs = CPUID1_ECX_CMPXCHG16B },
	[MICRO_SYSCALL] = { .entry = micro_syscall, .vector = VECTOR_UD, .handler = on_ud },
	[MICRO_DATA_WATCHPOINT] = { .entry = micro_data_watchpoint },
	[MICRO_CODE_BREAKPOINT] = { .entry = micro_code_breakpoint },
	[MICRO_SOFT_BREAKPOINT] = { .entry = micro_soft_breakpoint },
	[MICRO_SPIN] = { .entry = micro_spin },
};

struct idt_gate {
	u16 offset_low, selector, type, offset_middle;
	u32 offset_high, reserved;
};

static void write_tables(u8 *memory, const struct micro *micro)
{
	const u64 gdt[] = {
		0,
		0x00209b0000000000, /* kernel code, 64-bit */
		0x00cf93000000ffff, /* kernel data */
		0x00cff3000000ffff, /* user data */
		0x0020fb0000000000, /* user code, 64-bit */
		0x0000890000000067 | (u64)TSS << 16, /* a TSS, in two entries */
		0,
	};
	struct idt_gate *idt = (struct idt_gate *)(memory + IDT);
	u64 rsp0 = KERNEL_STACK;
	u64 present_writable_user = 7, huge = 0x80;

	*(u64 *)(memory + PML4) = PDPT | present_writable_user;
	*(u64 *)(memory + PDPT) = PAGE_DIRECTORY | present_writable_user;
	*(u64 *)(memory + PAGE_DIRECTORY) = 0 | huge | present_writable_user;
	memcpy(memory + GDT, gdt, sizeof(gdt));
	memcpy(memory + TSS + 4, &rsp0, sizeof(rsp0));
	memcpy(memory + CODE, micro_block, (size_t)(micro_block_end - micro_block));
	for (u32 vector = 0; vector < 32; vector++) {
		bool own = micro->handler && vector == micro->vector;
		u64 handler = guest_address(own ? micro->handler : on_fault);

		// A present interrupt gate that user mode may call (INT3 has no need, #UD ignores it).
		idt[vector] = (struct idt_gate){
			.offset_low = (u16)handler,
			.selector = SEL_CODE,
			.type = 0xee00,
			.offset_middle = (u16)(handler >> 16),
		};
	}
}

static struct kvm_segment code_segment(void)
{
	return (struct kvm_segment){
		.selector = SEL_CODE,
		.limit = 0xffffffff,
		.type = 11,
		.s = 1,
		.present = 1,
		.l = 1,
		.g = 1,
	};
}

static struct kvm_segment data_segment(u16 selector)
{
	return (struct kvm_segment){
		.selector = selector,
		.limit = 0xffffffff,
		.type = 3,
		.s = 1,
		.present = 1,
		.db = 1,
		.g = 1,
	};
}

static struct error *set_long_mode(const struct vcpu *vcpu, bool xsave)
{
	struct kvm_sregs sregs;
	struct error *err = vcpu_get_sregs(vcpu, &sregs);

	if (err)
		return err;
	sregs.cs = code_segment();
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data_segment(SEL_DATA);
	sregs.tr = (struct kvm_segment){ .base = TSS, .limit = 0x67, .selector = SEL_TSS, .type = 11, .present = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = GDT, .limit = 7 * 8 - 1 };
	sregs.idt = (struct kvm_dtable){ .base = IDT, .limit = 32 * 16 - 1 };
	sregs.cr3 = PML4;
	sregs.cr4 = 0x620 | (xsave ? 1 << 18 : 0); /* PAE, OSFXSR, OSXMMEXCPT; OSXSAVE */
	sregs.cr0 = 0x80050033; /* PG, AM, WP, NE, ET, MP, PE */
	sregs.efer = 0xd01; /* NX, LMA, LME, SCE */
	err = vcpu_set_sregs(vcpu, &sregs);
	if (err || !xsave)
		return err;

	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = 3 } };

	return KVM_IOCTL(vcpu->fd, KVM_SET_XCRS, &xcrs, "x87 and SSE state for XSAVE");
}

static struct error *set_syscall_target(const struct vcpu *vcpu)
{
	const struct kvm_msr_entry msrs[] = {
		/* STAR: kernel selectors from SEL_CODE on, user ones from SEL_DATA on. */
		{ .index = 0xc0000081, .data = (u64)SEL_CODE << 32 | (u64)(SEL_DATA | 3) << 48 },
		{ .index = 0xc0000082, .data = guest_address(on_syscall) }, /* LSTAR */
		{ .index = 0xc0000084, .data = 0x200 }, /* FMASK */
	};

	return vcpu_set_msrs(vcpu, msrs, ARRAY_SIZE(msrs));
}

static struct error *set_watch(const struct vcpu *vcpu, enum micro_guest guest)
{
	u64 debugreg[8] = { 0 };

	if (guest == MICRO_DATA_WATCHPOINT) {
		debugreg[0] = DATA;
		debugreg[7] = 0xd0402; /* four bytes, writes, global */
	} else if (guest == MICRO_CODE_BREAKPOINT) {
		debugreg[0] = guest_address(watched_code);
		debugreg[7] = 0x402; /* execution, global */
	} else if (guest == MICRO_SOFT_BREAKPOINT) {
		return vcpu_set_guest_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, debugreg);
	} else {
		return NULL;
	}
	return vcpu_set_guest_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, debugreg);
}

static struct error *set_up(const struct vcpu *vcpu, struct kvm_cpuid2 *cpuid, enum micro_guest guest)
{
	const struct kvm_regs regs = {
		.rip = guest_address(micros[guest].entry),
		.rsp = KERNEL_STACK,
		.rflags = 2,
	};
	struct error *err = vcpu_set_cpuid(vcpu, cpuid);

	if (!err)
		err = set_long_mode(vcpu, guest == MICRO_XSAVE);
	if (!err)
		err = set_syscall_target(vcpu);
	if (!err)
		err = vcpu_set_regs(vcpu, &regs);
	if (!err)
		err = set_watch(vcpu, guest);
	return err;
}

/* With KVM's word for it; or since it cannot emulate one, as a paravirtual KVM: then nothing has been done yet. */
static bool is_at_int3(const struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	struct kvm_regs regs = { 0 };

	if (run->exit_reason == KVM_EXIT_DEBUG)
		return run->debug.arch.exception == VECTOR_INT3 && run->debug.arch.pc == guest_address(planted_code);
	error_destroy(vcpu_get_regs(vcpu, &regs));
	return run->exit_reason == KVM_EXIT_INTERNAL_ERROR && run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	       regs.rip == guest_address(planted_code);
}

static bool exit_passed(const struct vcpu *vcpu, enum micro_guest guest)
{
	const struct kvm_run *run = vcpu->run;
	const struct kvm_debug_exit_arch *debug = &run->debug.arch;

	switch (guest) {
	case MICRO_DATA_WATCHPOINT:
		return run->exit_reason == KVM_EXIT_DEBUG && debug->dr6 & 1;
	case MICRO_CODE_BREAKPOINT:
		return run->exit_reason == KVM_EXIT_DEBUG && debug->pc == guest_address(watched_code);
	case MICRO_SOFT_BREAKPOINT:
		return is_at_int3(vcpu);
	default:
		return run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT &&
		       run->io.port == ANSWER_PORT && run->io.size == 4 &&
		       *(const u32 *)((const u8 *)run + run->io.data_offset) == ANSWER_GOOD;
	}
}

static struct error *run_bounded(struct vcpu *vcpu, enum micro_guest guest, u64 limit_ns, struct micro_result *ret)
{
	struct run_limit limit CLEANUP(run_limit_deinit) = { 0 };
	enum vcpu_run_result result;
	u64 end = clock_now_ns() + limit_ns;
	struct error *err = run_limit_init(&limit, vcpu, limit_ns);

	if (err)
		return err;
	do {
		err = vcpu_run(vcpu, &result);
		if (err) {
			// A KVM that cannot run the guest is an answer, not a failure to ask.
			snprintf(ret->ending, sizeof(ret->ending), "%s", error_message(err));
			error_destroy(err);
			return NULL;
		}
	} while (result != VCPU_EXIT && clock_now_ns() < end);

	if (result != VCPU_EXIT) {
		ret->timed_out = true;
		snprintf(ret->ending, sizeof(ret->ending), "did not end within %llu ms",
			 (unsigned long long)(limit_ns / NSEC_PER_MSEC));
		return NULL;
	}
	ret->passed = exit_passed(vcpu, guest);
	if (!ret->passed)
		vcpu_describe_exit(vcpu, ret->ending, sizeof(ret->ending));
	return NULL;
}

static bool processor_lacks(struct kvm_cpuid2 *cpuid, u32 ecx_bit)
{
	const struct kvm_cpuid_entry2 *leaf1 = cpuid_find(cpuid, 1, 0);

	return ecx_bit && (!leaf1 || !(leaf1->ecx & ecx_bit));
}

struct error *micro_run(const struct kvm *kvm, struct kvm_cpuid2 *cpuid, enum micro_guest guest, u64 limit_ns,
			struct micro_result *ret)
{
	struct guest_memory memory CLEANUP(guest_memory_deinit) = { 0 };
	struct vm vm CLEANUP(vm_deinit) = { .fd = -1 };
	struct vcpu vcpu CLEANUP(vcpu_deinit) = { .fd = -1 };
	struct kvm_clock_data clock;
	struct error *err;

	*ret = (struct micro_result){ 0 };
	if (processor_lacks(cpuid, micros[guest].needs)) {
		ret->passed = true;
		return NULL;
	}
	err = guest_memory_init(&memory, MEMORY_SIZE, MEMORY_SIZE, 1ULL << 32);
	if (err)
		return err;
	write_tables(memory.base, &micros[guest]);
	err = vm_init(&vm, kvm, &memory, VM_IRQCHIP_NONE, 0);
	if (err)
		return err;
	err = vcpu_init(&vcpu, &vm, 0);
	if (err)
		return err;
	err = set_up(&vcpu, cpuid, guest);
	if (err)
		return err;
	err = run_bounded(&vcpu, guest, limit_ns, ret);
	if (err)
		return err;
	// KVM settles its clock in the first KVM_RUN.
	err = vm_get_clock(&vm, &clock);
	if (!err)
		ret->master_clock = clock.flags & KVM_CLOCK_TSC_STABLE;
	error_destroy(err);
	return NULL;
}
