// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Atomic instructions behind which a vCPU stands: each is found, says what it found in memory, and its registers can
 * be put back. Plain stores are none of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/types.h"
#include "machine/watch_decode.h"

enum {
	RIP = 0x401000, /* behind the instruction */
	PLACE = 0x38010, /* that is written */
	CARRY = 1,
	ZERO = 1 << 6,
};

/* Where nothing else is said: rdi points there, rax, rcx and rbx are these. */
#define RAX 0x1111222233334444ULL
#define RCX 0x5555666677778888ULL

static struct kvm_regs usual(void)
{
	return (struct kvm_regs){
		.rip = RIP,
		.rdi = PLACE,
		.rax = RAX,
		.rcx = RCX,
		.rbx = 0x21,
		.rdx = 0x43,
		.rflags = 2,
	};
}

static u32 decode_all(const struct kvm_regs *regs, const char *bytes, u32 count, u32 size, u64 data,
		      struct watch_atomic ret[static WATCH_READINGS_MAX])
{
	struct watch_write w = {
		.gpa = 0x7000000 + PLACE % 4096,
		.size = size,
		.data = data,
		.regs = regs,
		.gs_base = 0x9000,
		.code_size = WATCH_CODE_MAX,
	};

	memset(w.code, 0x90, sizeof(w.code));
	memcpy(w.code + WATCH_CODE_MAX - count, bytes, count);
	return watch_decode(&w, ret);
}

/* The longest reading. */
static bool decode(const struct kvm_regs *regs, const char *bytes, u32 count, u32 size, u64 data,
		   struct watch_atomic *ret)
{
	struct watch_atomic all[WATCH_READINGS_MAX];
	u32 readings = decode_all(regs, bytes, count, size, data, all);

	*ret = all[0];
	return readings;
}

struct one {
	const char *bytes;
	u32 count, size;
	u64 data, found; /* what it wrote, what it must have found */
	u64 flags;
};

#define BYTES(s) s, sizeof(s) - 1

static void each_atomic_instruction_tells_what_it_found(void **state)
{
	static const struct one ones[] = {
		{ BYTES("\xf0\xff\x07"), 4, 6, 5, 0 }, // lock incl
		{ BYTES("\xf0\xff\x07"), 4, 0, 0xffffffff, 0 },
		{ BYTES("\xf0\x66\xff\x07"), 2, 0, 0xffff, 0 }, // lock incw
		{ BYTES("\xf0\xfe\x07"), 1, 6, 5, 0 }, // lock incb
		{ BYTES("\xf0\x48\xff\x0f"), 8, 5, 6, 0 }, // lock decq
		{ BYTES("\xf0\x01\x07"), 4, 0x33334445, 1, 0 }, // lock addl %eax
		{ BYTES("\xf0\x48\x29\x07"), 8, 0, RAX, 0 }, // lock subq %rax
		{ BYTES("\xf0\x83\x07\xff"), 4, 4, 5, 0 }, // lock addl $-1
		{ BYTES("\xf0\x48\x81\x07\x00\x00\x00\x80"), 8, 0, 0x80000000, 0 }, // lock addq $-2^31
		{ BYTES("\xf0\x66\x81\x2f\x34\x12"), 2, 0, 0x1234, 0 }, // lock subw $0x1234
		{ BYTES("\xf0\x80\x37\xff"), 1, 0xf0, 0x0f, 0 }, // lock xorb $-1
		{ BYTES("\xf0\xf7\x17"), 4, 0xfffffff0, 0x0f, 0 }, // lock notl
		{ BYTES("\xf0\xf7\x1f"), 4, 0xfffffffe, 2, 0 }, // lock negl
		{ BYTES("\xf0\x0f\xba\x2f\x04"), 4, 0x10, 0, 0 }, // lock btsl $4
		{ BYTES("\xf0\x0f\xba\x2f\x04"), 4, 0x10, 0x10, CARRY },
		{ BYTES("\xf0\x0f\xba\x37\x04"), 4, 1, 0x11, CARRY }, // lock btrl $4
		{ BYTES("\xf0\x0f\xba\x3f\x04"), 4, 0x11, 1, 0 }, // lock btcl $4
		{ BYTES("\x87\x07"), 4, 0xabcdef, 0x33334444, 0 }, // xchgl %eax
		{ BYTES("\x48\x87\x07"), 8, 0xabcdef, RAX, 0 },
		{ BYTES("\x86\x07"), 1, 0xab, 0x44, 0 }, // xchgb %al
		{ BYTES("\x86\x27"), 1, 0xab, 0x44, 0 }, // xchgb %ah
		{ BYTES("\xf0\x0f\xc1\x07"), 4, 0x33334450, 0x33334444, 0 }, // lock xaddl %eax
		{ BYTES("\xf0\x0f\xb1\x1f"), 4, 0x21, 0x33334444, ZERO }, // lock cmpxchgl %ebx
		{ BYTES("\xf0\x48\x0f\xb1\x1f"), 8, 0x21, RAX, ZERO },
	};

	for (u32 i = 0; i < ARRAY_SIZE(ones); i++) {
		struct kvm_regs regs = usual();
		struct watch_atomic a;

		regs.rflags |= ones[i].flags;
		if (!decode(&regs, ones[i].bytes, ones[i].count, ones[i].size, ones[i].data, &a))
			fail_msg("number %u is not found", i);
		assert_int_equal(a.kind, WATCH_ATOMIC_FROM);
		assert_int_equal(a.expected, ones[i].found);
		assert_int_equal(a.before.rip, RIP - ones[i].count);
	}
}

static bool fits(const struct watch_atomic *a, u32 size, u64 data, u64 found)
{
	const struct watch_write w = { .size = size, .data = data };

	return watch_atomic_fits(a, &w, found);
}

static void what_cannot_be_told_is_tried(void **state)
{
	struct kvm_regs regs = usual();
	struct watch_atomic a;

	assert_true(decode(&regs, BYTES("\xf0\x83\x0f\x05"), 4, 0x0f, &a)); // lock orl $5
	assert_int_equal(a.kind, WATCH_ATOMIC_OR);
	assert_true(fits(&a, 4, 0x0f, 0x0a));
	assert_true(fits(&a, 4, 0x0f, 0x0f));
	assert_false(fits(&a, 4, 0x0f, 0x1a));
	assert_true(decode(&regs, BYTES("\xf0\x83\x27\x06"), 4, 0x04, &a)); // lock andl $6
	assert_int_equal(a.kind, WATCH_ATOMIC_AND);
	assert_true(fits(&a, 4, 4, 0xfc));
	assert_false(fits(&a, 4, 4, 6));
	assert_true(decode(&regs, BYTES("\xf0\x83\x17\x01"), 4, 7, &a)); // lock adcl $1
	assert_true(fits(&a, 4, 7, 6) && fits(&a, 4, 7, 5));
	assert_false(fits(&a, 4, 7, 7));
	assert_true(decode(&regs, BYTES("\xf0\x83\x1f\x01"), 4, 7, &a)); // lock sbbl $1
	assert_true(fits(&a, 4, 7, 8) && fits(&a, 4, 7, 9));
	assert_false(fits(&a, 4, 7, 7));
	// An OR, or an AND, that cannot have made this.
	assert_false(decode(&regs, BYTES("\xf0\x83\x0f\x05"), 4, 0x0a, &a));
	assert_false(decode(&regs, BYTES("\xf0\x83\x27\x06"), 4, 0x01, &a));
}

static void registers_are_as_they_were(void **state)
{
	struct kvm_regs regs = usual();
	struct watch_atomic a;

	assert_true(decode(&regs, BYTES("\x48\x87\x07"), 8, 77, &a)); // xchgq %rax
	assert_int_equal(a.before.rax, 77);
	assert_int_equal(a.before.rcx, RCX);
	assert_true(decode(&regs, BYTES("\x66\x87\x07"), 2, 77, &a)); // xchgw %ax
	assert_int_equal(a.before.rax, (RAX & ~0xffffULL) | 77);
	assert_true(decode(&regs, BYTES("\x86\x27"), 1, 0x77, &a)); // xchgb %ah
	assert_int_equal(a.before.rax, (RAX & ~0xff00ULL) | 0x7700);
	assert_true(decode(&regs, BYTES("\x4c\x87\x0f"), 8, 77, &a)); // xchgq %r9
	assert_int_equal(a.before.r9, 77);
	assert_true(decode(&regs, BYTES("\xf0\x48\x0f\xc1\x07"), 8, RAX + 5, &a)); // lock xaddq %rax
	assert_int_equal(a.before.rax, 5);
	assert_true(decode(&regs, BYTES("\xf0\xff\x07"), 4, 77, &a)); // lock incl
	regs.rip -= 3;
	assert_memory_equal(&a.before, &regs, sizeof(regs));
}

static void a_cmpxchg_that_failed_is_no_write(void **state)
{
	struct kvm_regs regs = usual();
	struct watch_atomic a;

	assert_true(decode(&regs, BYTES("\xf0\x0f\xb1\x1f"), 4, 0x33334444, &a));
	assert_int_equal(a.kind, WATCH_ATOMIC_FAILED);
	assert_false(decode(&regs, BYTES("\xf0\x0f\xb1\x1f"), 4, 0x33334445, &a));
	assert_true(decode(&regs, BYTES("\xf0\x0f\xc7\x0f"), 8, 0x4333334444, &a)); // lock cmpxchg8b
	assert_int_equal(a.kind, WATCH_ATOMIC_FAILED);
	regs.rflags |= ZERO;
	assert_true(decode(&regs, BYTES("\xf0\x0f\xc7\x0f"), 8, 0x7777888800000021, &a));
	assert_int_equal(a.kind, WATCH_ATOMIC_FROM);
	assert_int_equal(a.expected, 0x4333334444);
}

static void every_way_to_an_address_is_known(void **state)
{
	static const struct {
		const char *bytes;
		u32 count;
	} ways[] = {
		{ BYTES("\xf0\xff\x47\x00") }, // (rdi + 0)
		{ BYTES("\xf0\xff\x46\xf0") }, // -16(rsi)
		{ BYTES("\xf0\xff\x86\xf0\xff\xff\xff") }, // the same in four bytes
		{ BYTES("\xf0\xff\x04\x24") }, // (rsp)
		{ BYTES("\xf0\x41\xff\x04\x24") }, // (r12)
		{ BYTES("\xf0\x41\xff\x45\x00") }, // (r13)
		{ BYTES("\xf0\xff\x44\xd3\x08") }, // 8(rbx, rdx, 8)
		{ BYTES("\xf0\x42\xff\x04\x8d\x10\x80\x03\x00") }, // 0x38010(, r9, 4)
		{ BYTES("\xf0\xff\x04\x25\x10\x80\x03\x00") }, // 0x38010
		{ BYTES("\xf0\xff\x05\x10\x70\xc3\xff") }, // -0x3c8ff0(rip)
		{ BYTES("\xf0\x65\xff\x04\x25\x10\xf0\x02\x00") }, // %gs:0x2f010
		{ BYTES("\xf0\x67\xff\x07") }, // (edi)
		{ BYTES("\x3e\xf0\xff\x07") }, // ds
	};

	for (u32 i = 0; i < ARRAY_SIZE(ways); i++) {
		struct kvm_regs regs = usual();
		struct watch_atomic a;

		regs.rsi = PLACE + 16;
		regs.rsp = regs.r12 = regs.r13 = PLACE;
		regs.rbx = PLACE - 8 - 8 * 3;
		regs.rdx = 3;
		if (!decode(&regs, ways[i].bytes, ways[i].count, 4, 9, &a))
			fail_msg("number %u is not found", i);
		assert_int_equal(a.before.rip, RIP - ways[i].count);
	}
}

static void a_bit_may_lie_beyond_its_operand(void **state)
{
	struct kvm_regs regs = usual();
	struct watch_atomic a;

	regs.rcx = 32 * 3 + 1;
	regs.rdi = PLACE - 12;
	assert_true(decode(&regs, BYTES("\xf0\x0f\xab\x0f"), 4, 2, &a)); // lock btsl %ecx
	assert_int_equal(a.expected, 0);
	regs.rcx = (u64)-31;
	regs.rdi = PLACE + 4;
	assert_true(decode(&regs, BYTES("\xf0\x0f\xab\x0f"), 4, 2, &a));
	regs.rdi = PLACE;
	assert_false(decode(&regs, BYTES("\xf0\x0f\xab\x0f"), 4, 2, &a));
}

static void what_writes_something_else_is_none(void **state)
{
	struct kvm_regs regs = usual();
	struct watch_atomic a;

	assert_false(decode(&regs, BYTES("\xff\x07"), 4, 6, &a)); // incl, no lock
	assert_false(decode(&regs, BYTES("\x89\x07"), 4, 0x33334444, &a)); // movl
	assert_false(decode(&regs, BYTES("\xf0\xff\x07"), 8, 6, &a)); // of another size
	assert_false(decode(&regs, BYTES("\xf0\xff\x47\x01"), 4, 6, &a)); // elsewhere
	assert_false(decode(&regs, BYTES("\xf0\xff\xc7"), 4, 6, &a)); // to a register
	assert_false(decode(&regs, BYTES("\xf0\x83\x3f\x05"), 4, 6, &a)); // a comparison
	assert_false(decode(&regs, BYTES("\xf0\xff\x17"), 8, 6, &a)); // a call
	assert_false(decode(&regs, BYTES("\xf0\xff\x07\x90"), 4, 6, &a)); // one that is over
	assert_false(decode(&regs, BYTES("\xf0"), 4, 6, &a));
}

/* What looks like a prefix may be the end of the instruction before. */
static void a_byte_that_may_be_a_prefix_makes_two_readings(void **state)
{
	struct kvm_regs regs = usual();
	struct watch_atomic a[WATCH_READINGS_MAX];

	regs.r8 = 0x77777777;
	assert_int_equal(decode_all(&regs, BYTES("\x44\x87\x07"), 4, 5, a), 2); // xchgl %r8d, or %eax
	assert_int_equal(a[0].expected, 0x77777777);
	assert_int_equal(a[0].before.r8, 5);
	assert_int_equal(a[0].before.rax, RAX);
	assert_int_equal(a[0].before.rip, RIP - 3);
	assert_int_equal(a[1].expected, 0x33334444);
	assert_int_equal(a[1].before.rax, 5);
	assert_int_equal(a[1].before.r8, 0x77777777);
	assert_int_equal(a[1].before.rip, RIP - 2);

	// lock incl %gs:(%rdi), or (%rdi); (%edi), or (%rdi): the places are told apart by who knows the page tables.
	regs.rdi |= 1ULL << 40;
	assert_int_equal(decode_all(&regs, BYTES("\x65\xf0\xff\x07"), 4, 6, a), 2);
	assert_int_equal(a[0].address, regs.rdi + 0x9000);
	assert_int_equal(a[1].address, regs.rdi);
	assert_int_equal(decode_all(&regs, BYTES("\x67\xf0\xff\x07"), 4, 6, a), 2);
	assert_int_equal(a[0].address, PLACE);
	assert_int_equal(a[1].address, regs.rdi);

	// As many as there are prefixes: no more than fit.
	assert_int_equal(decode_all(&regs, BYTES("\x3e\x3e\x3e\x3e\x3e\x3e\x3e\x3e\xf0\xff\x07"), 4, 6, a),
			 WATCH_READINGS_MAX);
	assert_int_equal(a[0].before.rip, RIP - 11);
}

/* movl $0x07ff..., (%rdi): the end of its operand would be lock incl (%rdi), had it not just these bytes written. */
static void a_store_whose_operand_looks_like_one_is_a_store(void **state)
{
	struct kvm_regs regs = usual();
	struct watch_atomic a;

	assert_false(decode(&regs, BYTES("\xc7\x07\x33\xf0\xff\x07"), 4, 0x07fff033, &a));
	assert_true(decode(&regs, BYTES("\xc7\x07\x33\xf0\xff\x07"), 4, 0x07fff034, &a));
}

static void fewer_bytes_than_there_could_be_do(void **state)
{
	struct kvm_regs regs = usual();
	struct watch_write w = { .gpa = PLACE, .size = 4, .data = 6, .regs = &regs };
	struct watch_atomic a[WATCH_READINGS_MAX];

	assert_int_equal(watch_decode(&w, a), 0);
	assert_false(watch_may_be_atomic(w.code, 0));
	memcpy(w.code, "\xf0\xff\x07", 3);
	w.code_size = 3;
	assert_true(watch_may_be_atomic(w.code, 3));
	assert_int_equal(watch_decode(&w, a), 1);
	memcpy(w.code, "\xff\x07", 2);
	w.code_size = 2;
	assert_int_equal(watch_decode(&w, a), 0);
	assert_false(watch_may_be_atomic((const u8 *)"\x48\x89\x07\xf0", 4)); // its last byte starts nothing
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_atomic_instruction_tells_what_it_found),
		cmocka_unit_test(what_cannot_be_told_is_tried),
		cmocka_unit_test(registers_are_as_they_were),
		cmocka_unit_test(a_cmpxchg_that_failed_is_no_write),
		cmocka_unit_test(every_way_to_an_address_is_known),
		cmocka_unit_test(a_bit_may_lie_beyond_its_operand),
		cmocka_unit_test(what_writes_something_else_is_none),
		cmocka_unit_test(a_byte_that_may_be_a_prefix_makes_two_readings),
		cmocka_unit_test(a_store_whose_operand_looks_like_one_is_a_store),
		cmocka_unit_test(fewer_bytes_than_there_could_be_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
