/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that C has no words for: ports, MSRs, CPUID, memory-mapped registers, halting.
 * Depends on base/types.h. Plain integer instructions only.
 */
#ifndef TINY_CPU_H
#define TINY_CPU_H

#include "base/types.h"

static inline void out8(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1"
			 :
			 : "a"(v), "Nd"(port));
}

static inline void out16(u16 port, u16 v)
{
	__asm__ volatile("outw %0, %1"
			 :
			 : "a"(v), "Nd"(port));
}

static inline void out32(u16 port, u32 v)
{
	__asm__ volatile("outl %0, %1"
			 :
			 : "a"(v), "Nd"(port));
}

static inline u32 in32(u16 port)
{
	u32 v;

	__asm__ volatile("inl %1, %0"
			 : "=a"(v)
			 : "Nd"(port));
	return v;
}

/* One access of exactly that size: the compiler must not merge, split or widen it. */
#define DEFINE_MMIO(bits)                                             \
	static inline u##bits read##bits(u64 address)                 \
	{                                                             \
		u##bits v;                                            \
                                                                      \
		__asm__ volatile("mov %1, %0"                         \
				 : "=r"(v)                            \
				 : "m"(*(volatile u##bits *)address)  \
				 : "memory");                         \
		return v;                                             \
	}                                                             \
	static inline void write##bits(u64 address, u##bits v)        \
	{                                                             \
		__asm__ volatile("mov %1, %0"                         \
				 : "=m"(*(volatile u##bits *)address) \
				 : "r"(v)                             \
				 : "memory");                         \
	}
DEFINE_MMIO(8)
DEFINE_MMIO(16)
DEFINE_MMIO(32)
DEFINE_MMIO(64)

static inline u64 msr_read(u32 msr)
{
	u32 low, high;

	__asm__ volatile("rdmsr"
			 : "=a"(low), "=d"(high)
			 : "c"(msr));
	return (u64)high << 32 | low;
}

static inline void msr_write(u32 msr, u64 v)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32))
			 : "memory");
}

static inline u64 tsc_read(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc"
			 : "=a"(low), "=d"(high)
			 :
			 : "memory");
	return (u64)high << 32 | low;
}

struct cpuid {
	u32 a, b, c, d;
};

static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

/* Waits for one interrupt and has it handled; interrupts are off before and after. No wake-up is lost. */
static inline void wait_for_interrupt(void)
{
	__asm__ volatile("sti; hlt; cli"
			 :
			 :
			 : "memory");
}

static inline void barrier(void)
{
	__asm__ volatile(""
			 :
			 :
			 : "memory");
}

__attribute__((noreturn)) static inline void halt_for_ever(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

#endif
