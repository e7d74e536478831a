// SPDX-License-Identifier: GPL-2.0-or-later
/* Machine code as text: instructions, where branches go, and what is no instruction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/kvm_fixture.h"
#include "kernel/disasm.h"

#define BASE 0xffffffff81000000ULL

enum { MAX = 16 };

static int setup(void **state)
{
	struct disassembler *d = NULL;

	assert_no_error(disassembler_create(&d));
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	disassembler_destroy(*state);
	return 0;
}

static void instructions_follow_one_another(void **state)
{
	/* endbr64; push %rbp; mov %rsp,%rbp; mov 0x10(%rdi),%rax; ret */
	static const u8 code[] = { 0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x48, 0x8b, 0x47, 0x10, 0xc3 };
	static const struct {
		u32 length;
		const char *text;
	} expected[] = {
		{ 4, "endbr64" },
		{ 1, "pushq   %rbp" },
		{ 3, "movq    %rsp, %rbp" },
		{ 4, "movq    0x10(%rdi), %rax" },
		{ 1, "retq" },
	};
	struct instruction in[MAX];
	u64 address = BASE;

	assert_int_equal(disassembler_run(*state, code, sizeof(code), BASE, in, MAX), ARRAY_SIZE(expected));
	for (u32 i = 0; i < ARRAY_SIZE(expected); i++) {
		assert_true(in[i].valid);
		assert_int_equal(in[i].address, address);
		assert_int_equal(in[i].length, expected[i].length);
		assert_string_equal(in[i].text, expected[i].text);
		assert_memory_equal(in[i].bytes, code + (address - BASE), in[i].length);
		address += in[i].length;
	}
}

static void no_more_than_asked_for(void **state)
{
	u8 nops[64];
	struct instruction in[MAX];

	memset(nops, 0x90, sizeof(nops));
	memset(in, 0xee, sizeof(in));
	assert_int_equal(disassembler_run(*state, nops, sizeof(nops), BASE, in, 3), 3);
	assert_int_equal((u8)in[3].text[0], 0xee);
	assert_int_equal(disassembler_run(*state, nops, 0, BASE, in, 3), 0);
}

static void a_branch_says_where_it_goes(void **state)
{
	static const struct {
		u8 code[8];
		u32 length;
		u64 target;
	} cases[] = {
		{ { 0xe8, 0xfb, 0x0f, 0x00, 0x00 }, 5, BASE + 0x1000 }, /* call */
		{ { 0xe9, 0xfb, 0xff, 0xff, 0xff }, 5, BASE }, /* jmp to itself */
		{ { 0x0f, 0x84, 0xfa, 0x00, 0x00, 0x00 }, 6, BASE + 0x100 }, /* je */
		{ { 0x74, 0x10 }, 2, BASE + 0x12 },
		{ { 0xff, 0xd0 }, 2, 0 }, /* call *%rax */
		{ { 0x48, 0xc7, 0xc0, 0x01, 0x00, 0x00, 0x00 }, 7, 0 }, /* mov $1,%rax */
	};
	struct instruction in;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(disassembler_run(*state, cases[i].code, cases[i].length, BASE, &in, 1), 1);
		assert_int_equal(in.length, cases[i].length);
		assert_int_equal(in.target, cases[i].target);
	}
}

static void a_rip_relative_operand_says_its_address(void **state)
{
	static const u8 code[] = { 0x48, 0x8b, 0x05, 0xf9, 0x0f, 0x00, 0x00 }; /* mov 0xff9(%rip),%rax */
	static const u8 other[] = { 0x48, 0x8b, 0x40, 0x08 }; /* mov 8(%rax),%rax */
	struct instruction in;

	assert_int_equal(disassembler_run(*state, code, sizeof(code), BASE, &in, 1), 1);
	assert_int_equal(in.memory, BASE + 0x1000);
	assert_int_equal(in.target, 0);
	assert_int_equal(disassembler_run(*state, other, sizeof(other), BASE, &in, 1), 1);
	assert_int_equal(in.memory, 0);
}

static void what_is_no_instruction_is_bytes(void **state)
{
	static const u8 code[] = { 0x06, 0x90, 0x48, 0x8b }; /* push %es is none; nop; a mov cut short */
	struct instruction in[MAX];

	assert_int_equal(disassembler_run(*state, code, sizeof(code), BASE, in, MAX), 4);
	assert_string_equal(in[0].text, ".byte   0x06");
	assert_false(in[0].valid);
	assert_string_equal(in[1].text, "nop");
	assert_int_equal(in[1].address, BASE + 1);
	assert_string_equal(in[2].text, ".byte   0x48");
	assert_string_equal(in[3].text, ".byte   0x8b");
}

static void any_bytes_are_consumed_one_instruction_at_a_time(void **state)
{
	u8 noise[4096];
	u64 seed = 88172645463325252ULL;
	struct instruction in;

	for (size_t i = 0; i < sizeof(noise); i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		noise[i] = (u8)seed;
	}
	for (size_t at = 0; at < sizeof(noise); at += in.length) {
		assert_int_equal(disassembler_run(*state, noise + at, sizeof(noise) - at, at, &in, 1), 1);
		assert_in_range(in.length, 1, INSTRUCTION_MAX);
		assert_int_equal(in.address, at);
		assert_memory_equal(in.bytes, noise + at, in.length);
		assert_true(in.text[0] && memchr(in.text, 0, sizeof(in.text)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(instructions_follow_one_another),
		cmocka_unit_test(no_more_than_asked_for),
		cmocka_unit_test(a_branch_says_where_it_goes),
		cmocka_unit_test(a_rip_relative_operand_says_its_address),
		cmocka_unit_test(what_is_no_instruction_is_bytes),
		cmocka_unit_test(any_bytes_are_consumed_one_instruction_at_a_time),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
