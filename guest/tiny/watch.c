// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/watch.h"

#include "tiny/cpu.h"
#include "tiny/op.h"
#include "tiny/print.h"
#include "tiny/report.h"
#include "tiny/trap.h"

enum { START_SECONDS = 60 };

/* On one CPU, or on all at once. What it returns is told to the host. */
struct routine {
	const char *name;
	u64 (*run)(u64 address, u64 count, u32 index);
	bool alone; /* on the boot CPU only */
};

static struct {
	struct cpus *cpus;
	const struct routine *routine;
	u64 address, count;
	volatile u32 round, done;
	volatile u64 results[TINY_CPUS_MAX];
} watch;

/* --- by all --- */

static u64 lock_inc(u64 address, u64 count, u32 index)
{
	for (u64 i = 0; i < count; i++)
		__asm__ volatile("lock incl (%0)"
				 :
				 : "r"(address)
				 : "memory", "cc");
	return 0;
}

/* The sum of what it found: each value of the counter is found once. */
static u64 lock_xadd(u64 address, u64 count, u32 index)
{
	u64 sum = 0;

	for (u64 i = 0; i < count; i++) {
		u32 one = 1;

		__asm__ volatile("lock xaddl %0, (%1)"
				 : "+r"(one)
				 : "r"(address)
				 : "memory", "cc");
		sum += one;
	}
	return sum;
}

/* What it got less what it gave: nothing is lost, or there twice. */
static u64 xchg(u64 address, u64 count, u32 index)
{
	u64 sum = 0;

	for (u64 i = 0; i < count; i++) {
		u64 given = (u64)index << 32 | (i + 1), token = given;

		__asm__ volatile("xchgq %0, (%1)"
				 : "+r"(token)
				 : "r"(address)
				 : "memory");
		sum += token - given;
	}
	return sum;
}

/*
 * The same by 32 bits, behind an instruction whose last byte would be the prefix that makes another register of it.
 * What that other one has lost counts a million times.
 */
static u64 xchg_prefixed(u64 address, u64 count, u32 index)
{
	u64 sum = 0;

	for (u64 i = 0; i < count; i++) {
		u32 given = index << 24 | (u32)(i + 1), token = given;
		register u64 other __asm__("r8") = 0x5555;

		__asm__ volatile(".byte 0x8b, 0x4f, 0x44\n\t" // movl 0x44(%rdi), %ecx
				 ".byte 0x87, 0x07" // xchgl %eax, (%rdi)
				 : "+a"(token), "+r"(other)
				 : "D"(address)
				 : "rcx", "memory");
		sum += token - (u64)given + (other != 0x5555) * 1000000;
	}
	return sum;
}

/* How often it had to try again. */
static u64 cmpxchg(u64 address, u64 count, u32 index)
{
	u64 again = 0;

	for (u64 i = 0; i < count;) {
		u64 found = read64(address), wanted = found;

		__asm__ volatile("lock cmpxchgq %2, (%1)"
				 : "+a"(found)
				 : "r"(address), "r"(wanted + 1)
				 : "memory", "cc");
		if (found == wanted)
			i++;
		else
			again++;
	}
	return again;
}

/* KVM's emulator does not know it; nor do hosts that interpret kernel mode. Sixteen bytes; how often it failed. */
static u64 cmpxchg16b(u64 address, u64 count, u32 index)
{
	u64 again = 0;

	for (u64 i = 0; i < count;) {
		u64 low = read64(address), high = read64(address + 8);
		u8 done;

		__asm__ volatile("lock cmpxchg16b (%[p]); setz %[done]"
				 : "+a"(low), "+d"(high), [done] "=r"(done)
				 : [p] "r"(address), "b"(low + 1), "c"(high + 2)
				 : "memory", "cc");
		if (done)
			i++;
		else
			again++;
	}
	return again;
}

/* Its own bit goes on and off; how often that found it in the wrong state. */
static u64 lock_bits(u64 address, u64 count, u32 index)
{
	u64 wrong = 0, bit = index;
	u8 was;

	for (u64 i = 0; i < count; i++) {
		__asm__ volatile("lock btsq %2, (%1); setc %0"
				 : "=r"(was)
				 : "r"(address), "r"(bit)
				 : "memory", "cc");
		wrong += was;
		__asm__ volatile("lock btrq %2, (%1); setc %0"
				 : "=r"(was)
				 : "r"(address), "r"(bit)
				 : "memory", "cc");
		wrong += !was;
		__asm__ volatile("lock xorq %1, (%0); lock andq %2, (%0)"
				 :
				 : "r"(address), "r"(1ULL << bit), "r"(~(1ULL << bit))
				 : "memory", "cc");
	}
	return wrong;
}

/* Its own cell of the page, 64 bytes apart, beside the first one. */
static u64 beside(u64 address, u64 count, u32 index)
{
	for (u64 i = 1; i <= count; i++)
		write64(address + 64 * (index + 1ULL), i);
	return read64(address + 64 * (index + 1ULL));
}

/* Each writes its own numbers to the one place. */
static u64 store(u64 address, u64 count, u32 index)
{
	for (u64 i = 1; i <= count; i++)
		write64(address, (u64)index << 32 | i);
	return 0;
}

/* --- by one --- */

static u64 write_1(u64 address, u64 count, u32 index)
{
	for (u64 i = 1; i <= count; i++)
		write8(address, (u8)i);
	return 0;
}

static u64 write_2(u64 address, u64 count, u32 index)
{
	for (u64 i = 1; i <= count; i++)
		write16(address, (u16)(i * 0x101));
	return 0;
}

static u64 write_4(u64 address, u64 count, u32 index)
{
	for (u64 i = 1; i <= count; i++)
		write32(address, (u32)(i * 0x1010101));
	return 0;
}

static u64 write_8(u64 address, u64 count, u32 index)
{
	for (u64 i = 1; i <= count; i++)
		write64(address, i * 0x101010101010101);
	return 0;
}

/* count bytes from address on, each by one repetition. */
static u64 stosb(u64 address, u64 count, u32 index)
{
	__asm__ volatile("rep stosb"
			 : "+D"(address), "+c"(count)
			 : "a"(0x5a)
			 : "memory");
	return count;
}

/* count words of eight bytes, from the page behind the pages. */
static u64 movsq(u64 address, u64 count, u32 index)
{
	u64 from = TINY_WATCH_SOURCE_GPA;

	for (u64 i = 0; i < count; i++)
		write64(from + 8 * i, 0x1000 + i);
	__asm__ volatile("rep movsq"
			 : "+D"(address), "+S"(from), "+c"(count)
			 :
			 : "memory");
	return count;
}

static u64 pushed(u64 address, u64 count, u32 index)
{
	u64 stack;

	for (u64 i = 1; i <= count; i++)
		__asm__ volatile("movq %%rsp, %0\n\t"
				 "leaq 8(%1), %%rsp\n\t"
				 "pushq %2\n\t"
				 "movq %0, %%rsp"
				 : "=&r"(stack)
				 : "r"(address), "r"(i)
				 : "memory");
	return 0;
}

/* The code that writes there is in the same page, and changes its own next instruction. The sum of what it returns. */
static u64 code(u64 address, u64 count, u32 index)
{
	static const u8 text[] = {
		0x48, 0x89, 0x37, // movq %rsi, (%rdi)
		0x89, 0x35, 0x01, 0x00, 0x00, 0x00, // movl %esi, 1(%rip)
		0xb8, 0x00, 0x00, 0x00, 0x00, // movl $0, %eax
		0xc3, // ret
	};
	u64 at = address + 0x800, sum = 0;

	if (read8(at + sizeof(text) - 1) != text[sizeof(text) - 1]) // once: there may be a breakpoint
		memcpy((void *)at, text, sizeof(text));
	for (u64 i = 1; i <= count; i++) {
		u64 result;

		__asm__ volatile("call *%[at]"
				 : "=a"(result)
				 : [at] "r"(at), "D"(address), "S"(i)
				 : "memory", "cc");
		sum += result;
	}
	return sum;
}

/* --- vector registers; where the processor has them in kernel mode --- */

enum {
	CR4_OSFXSR = 1 << 9,
	CR4_OSXSAVE = 1 << 18,
	XCR0_ALL = 7, /* x87, SSE, AVX */
};

static void allow_vectors(void)
{
	u64 cr4;

	__asm__ volatile("movq %%cr4, %0\n\t"
			 "orq %1, %0\n\t"
			 "movq %0, %%cr4\n\t"
			 "xsetbv"
			 : "=&r"(cr4)
			 : "r"((u64)(CR4_OSFXSR | CR4_OSXSAVE)), "c"(0), "a"(XCR0_ALL), "d"(0));
}

/* Sixteen bytes: i and ~i. */
static u64 sse(u64 address, u64 count, u32 index)
{
	allow_vectors();
	for (u64 i = 1; i <= count; i++) {
		u64 both[2] = { i, ~i };

		__asm__ volatile("movups (%1), %%xmm0\n\t"
				 "movups %%xmm0, (%0)"
				 :
				 : "r"(address), "r"(both)
				 : "memory");
	}
	return 0;
}

/* Thirty-two: i, ~i, i + 1, i + 2. */
static u64 avx(u64 address, u64 count, u32 index)
{
	allow_vectors();
	for (u64 i = 1; i <= count; i++) {
		u64 all[4] = { i, ~i, i + 1, i + 2 };

		__asm__ volatile("vmovups (%1), %%ymm0\n\t"
				 "vmovups %%ymm0, (%0)"
				 :
				 : "r"(address), "r"(all)
				 : "memory");
	}
	return 0;
}

/* 512 bytes of FXSAVE: MXCSR, which is at 24, is 0x1f80 with another mask bit each time. */
static u64 fxsave(u64 address, u64 count, u32 index)
{
	allow_vectors();
	for (u64 i = 1; i <= count; i++) {
		u32 mxcsr = i & 1 ? 0x1f80 : 0x1f00;

		__asm__ volatile("ldmxcsr %1\n\t"
				 "fxsave64 (%0)"
				 :
				 : "r"(address), "m"(mxcsr)
				 : "memory");
	}
	return 0;
}

/* The same by XSAVE. */
static u64 xsave(u64 address, u64 count, u32 index)
{
	allow_vectors();
	for (u64 i = 1; i <= count; i++) {
		u32 mxcsr = i & 1 ? 0x1f80 : 0x1f00;

		__asm__ volatile("ldmxcsr %1\n\t"
				 "xsave64 (%0)"
				 :
				 : "r"(address), "m"(mxcsr), "a"(XCR0_ALL), "d"(0)
				 : "memory");
	}
	return 0;
}

/* One of each kind that reads, changes and writes, on an aligned word of four bytes; the sum of what they told. */
static u64 forms(u64 address, u64 count, u32 index)
{
	u32 a = 0x11, b = 0x22;
	u64 low = 0;

	__asm__ volatile("movl $5, (%[p])\n\t"
			 "incl (%[p])\n\t" // 6
			 "lock decl (%[p])\n\t" // 5
			 "lock addl $7, (%[p])\n\t" // 12
			 "lock subl $2, (%[p])\n\t" // 10
			 "lock orl $5, (%[p])\n\t" // 15
			 "lock andl $6, (%[p])\n\t" // 6
			 "lock xorl $3, (%[p])\n\t" // 5
			 "lock notl (%[p])\n\t" // ~5
			 "lock negl (%[p])\n\t" // 6
			 "lock btsl $4, (%[p])\n\t" // 0x16
			 "lock btrl $1, (%[p])\n\t" // 0x14
			 "lock btcl $0, (%[p])\n\t" // 0x15
			 "xchgl %[a], (%[p])\n\t" // 0x11
			 "lock xaddl %[b], (%[p])\n\t" // 0x33
			 "stc\n\t"
			 "lock adcl $1, (%[p])\n\t" // 0x35
			 "stc\n\t"
			 "lock sbbl $1, (%[p])\n\t" // 0x33
			 "movl $0x33, %%eax\n\t"
			 "movl $0x44, %%ecx\n\t"
			 "lock cmpxchgl %%ecx, (%[p])\n\t" // 0x44
			 "setz %%cl\n\t"
			 "movzbl %%cl, %%ecx\n\t"
			 "addq %%rcx, %[low]\n\t"
			 "movl $0x99, %%eax\n\t"
			 "lock cmpxchgl %%ecx, (%[p])\n\t" // fails: 0x44
			 "addq %%rax, %[low]\n\t"
			 "movb $0x77, 1(%[p])\n\t" // 0x7744
			 "movw $0x1234, 2(%[p])\n\t" // 0x12347744
			 : [a] "+&r"(a), [b] "+&r"(b), [low] "+&r"(low)
			 : [p] "r"(address)
			 : "rax", "rcx", "memory", "cc");
	return low + a + b;
}

/* --- */

static const struct routine routines[] = {
	{ "lock-inc", lock_inc, false },
	{ "lock-xadd", lock_xadd, false },
	{ "lock-bits", lock_bits, false },
	{ "xchg", xchg, false },
	{ "xchg-prefixed", xchg_prefixed, false },
	{ "cmpxchg", cmpxchg, false },
	{ "cmpxchg16b", cmpxchg16b, false },
	{ "beside", beside, false },
	{ "store", store, false },
	{ "write-1", write_1, true },
	{ "write-2", write_2, true },
	{ "write-4", write_4, true },
	{ "write-8", write_8, true },
	{ "stosb", stosb, true },
	{ "movsq", movsq, true },
	{ "push", pushed, true },
	{ "code", code, true },
	{ "sse", sse, true },
	{ "avx", avx, true },
	{ "fxsave", fxsave, true },
	{ "xsave", xsave, true },
	{ "forms", forms, true },
};

static void work(u32 index)
{
	u32 round = 0;

	for (;;) {
		while (watch.round == round)
			wait_for_interrupt();
		round = watch.round;
		if (!watch.routine->alone)
			watch.results[index] = watch.routine->run(watch.address, watch.count, index);
		__atomic_fetch_add(&watch.done, 1, __ATOMIC_SEQ_CST);
		apic_send_wake(watch.cpus->cpu[0].apic_id);
	}
}

static const struct routine *find_routine(const struct attr *path)
{
	for (u32 i = 0; i < ARRAY_SIZE(routines); i++)
		if (path->length == strlen(routines[i].name) &&
		    !memcmp(path->value, routines[i].name, path->length))
			return &routines[i];
	return NULL;
}

static void serve(const struct op *op)
{
	struct attr path;

	watch.routine = op_attr(op, ATTR_PATH, &path) ? find_routine(&path) : NULL;
	if (!watch.routine) {
		op_fail(op, ERRNO_NOENT);
		return;
	}
	watch.address = TINY_WATCH_GPA + op_number(op, ATTR_OFFSET, 0);
	watch.count = op_number(op, ATTR_LENGTH, 1);
	watch.done = 0;
	for (u32 i = 0; i < watch.cpus->up; i++)
		watch.results[i] = 0;
	watch.round++;
	for (u32 i = 1; i < watch.cpus->up; i++)
		apic_send_wake(watch.cpus->cpu[i].apic_id);
	watch.results[0] = watch.routine->run(watch.address, watch.count, 0);
	while (watch.done < watch.cpus->up - 1)
		wait_for_interrupt();
	op_reply(op, (const void *)watch.results, watch.cpus->up * sizeof(watch.results[0]));
}

void watch_run(struct cpus *cpus, u64 rsdp)
{
	watch.cpus = cpus;
	if (!cpus_start(cpus, rsdp, START_SECONDS))
		machine_reset();
	cpus_run(cpus, work);
	report_at_work();
	for (;;) {
		struct op op = op_receive();

		if (op.op == OP_READ)
			serve(&op);
		else if (!op_answer_common(&op))
			op_fail(&op, ERRNO_NOSYS);
	}
}
