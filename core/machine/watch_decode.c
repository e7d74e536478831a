// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/watch_decode.h"

#include <string.h>

enum {
	PAGE_MASK = 0xfff,
	FLAG_CARRY = 1 << 0,
	FLAG_ZERO = 1 << 6,

	RAX = 0,
	RDX = 2,
	RSP = 4,
	RBP = 5,
};

/* What is in front of the opcode. */
struct prefixes {
	bool locked, operand16, address32;
	u8 rex;
	u64 segment; /* base */
};

enum operation {
	OP_NONE,
	OP_ADD,
	OP_OR,
	OP_ADC,
	OP_SBB,
	OP_AND,
	OP_SUB,
	OP_XOR,
	OP_MOV, /* no atomic one: a plain store that looks like the write */
	OP_INC,
	OP_DEC,
	OP_NOT,
	OP_NEG,
	OP_SET, /* BTS */
	OP_RESET,
	OP_FLIP,
	OP_XCHG,
	OP_XADD,
	OP_CMPXCHG,
	OP_CMPXCHG8B,
};

struct instruction {
	struct prefixes prefix;
	enum operation op;
	u32 size; /* of the operand */
	u32 immediate_size;
	bool is_bit_by_register; /* its bit may lie beyond the operand */
	u8 reg; /* of modrm, with REX.R */
	u64 immediate; /* sign-extended */
	u64 address; /* linear, but for what wraps */
};

struct cursor {
	const u8 *at, *end;
	bool failed;
};

static u64 take(struct cursor *c, u32 size)
{
	u64 v = 0;

	if ((size_t)(c->end - c->at) < size) {
		c->failed = true;
		return 0;
	}
	memcpy(&v, c->at, size);
	c->at += size;
	return v;
}

static u64 take_signed(struct cursor *c, u32 size)
{
	u64 v = take(c, size);

	return size == 1 ? (u64)(s64)(s8)v : size == 2 ? (u64)(s64)(s16)v :
				     size == 4	       ? (u64)(s64)(s32)v :
							 v;
}

static u64 truncate(u64 v, u32 size)
{
	return size >= 8 ? v : v & ((1ULL << size * 8) - 1);
}

static __u64 *reg_at(struct kvm_regs *r, u8 number)
{
	__u64 *const regs[16] = { &r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp, &r->rsi, &r->rdi,
				  &r->r8, &r->r9, &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15 };

	return regs[number & 15];
}

/* AH to BH: without REX. */
static bool is_high_byte(const struct instruction *i)
{
	return i->size == 1 && !i->prefix.rex && i->reg >= 4 && i->reg < 8;
}

static u64 get_reg(const struct instruction *i, struct kvm_regs *regs)
{
	if (is_high_byte(i))
		return *reg_at(regs, i->reg - 4) >> 8 & 0xff;
	return truncate(*reg_at(regs, i->reg), i->size);
}

/* The upper half of what a 32-bit operand's register held is gone, and the instruction clears it again. */
static void set_reg(const struct instruction *i, struct kvm_regs *regs, u64 v)
{
	__u64 *reg = reg_at(regs, is_high_byte(i) ? i->reg - 4 : i->reg);

	if (is_high_byte(i))
		*reg = (*reg & ~0xff00ULL) | v << 8;
	else if (i->size < 4)
		*reg = (*reg & ~truncate(~0ULL, i->size)) | v;
	else
		*reg = v;
}

static void take_prefixes(struct cursor *c, const struct watch_write *w, struct prefixes *p)
{
	for (; c->at < c->end; c->at++) {
		switch (*c->at) {
		case 0xf0:
			p->locked = true;
			break;
		case 0x66:
			p->operand16 = true;
			break;
		case 0x67:
			p->address32 = true;
			break;
		case 0x64:
			p->segment = w->fs_base;
			break;
		case 0x65:
			p->segment = w->gs_base;
			break;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
		case 0xf2: // hints
		case 0xf3:
			break;
		default:
			if (*c->at >> 4 == 4)
				p->rex = *c->at++;
			return;
		}
	}
}

/* extension: modrm's middle bits, where they are part of the opcode. */
static void identify_two_bytes(struct instruction *i, u8 opcode, u8 extension)
{
	static const enum operation bits[] = { OP_SET, OP_RESET, OP_FLIP };

	switch (opcode) {
	case 0xab:
	case 0xb3:
	case 0xbb:
		i->op = opcode == 0xab ? OP_SET : opcode == 0xb3 ? OP_RESET :
								   OP_FLIP;
		i->is_bit_by_register = true;
		break;
	case 0xba:
		i->op = extension >= 5 ? bits[extension - 5] : OP_NONE;
		i->immediate_size = 1;
		break;
	case 0xb0:
	case 0xb1:
		i->op = OP_CMPXCHG;
		break;
	case 0xc0:
	case 0xc1:
		i->op = OP_XADD;
		break;
	case 0xc7:
		i->op = extension == 1 && !(i->prefix.rex & 8) ? OP_CMPXCHG8B : OP_NONE;
		i->size = 8;
		break;
	}
	if (opcode == 0xb0 || opcode == 0xc0)
		i->size = 1;
}

static void identify(struct instruction *i, u8 opcode, u8 extension)
{
	const u32 immediate = i->size == 8 ? 4 : i->size;

	if (!(opcode & 1))
		i->size = 1;
	if (opcode < 0x38 && (opcode & 7) < 2) {
		i->op = OP_ADD + (opcode >> 3);
		return;
	}
	switch (opcode) {
	case 0x80:
	case 0x81:
	case 0x83:
		i->op = extension < 7 ? OP_ADD + extension : OP_NONE;
		i->immediate_size = opcode == 0x81 ? immediate : 1;
		break;
	case 0x86:
	case 0x87:
		i->op = OP_XCHG;
		break;
	case 0x88:
	case 0x89:
		i->op = OP_MOV;
		break;
	case 0xc6:
	case 0xc7:
		i->op = extension == 0 ? OP_MOV : OP_NONE;
		i->immediate_size = opcode == 0xc6 ? 1 : immediate;
		break;
	case 0xf6:
	case 0xf7:
		i->op = extension == 2 ? OP_NOT : extension == 3 ? OP_NEG :
								   OP_NONE;
		break;
	case 0xfe:
	case 0xff:
		i->op = extension == 0 ? OP_INC : extension == 1 ? OP_DEC :
								   OP_NONE;
		break;
	}
}

/* Linear, of a memory operand; the bytes behind it are its immediate. regs: as the address's were. */
static u64 take_address(struct cursor *c, const struct instruction *i, u8 modrm, struct kvm_regs *regs)
{
	u8 mod = modrm >> 6, rm = modrm & 7, rex = i->prefix.rex;
	bool is_rip = false, is_absolute = false;
	u64 address = 0;

	if (rm == RSP) {
		u8 sib = (u8)take(c, 1), index = (u8)((sib >> 3 & 7) | (rex & 2) << 2);

		if (index != RSP)
			address = *reg_at(regs, index) << (sib >> 6);
		is_absolute = (sib & 7) == RBP && mod == 0;
		if (!is_absolute)
			address += *reg_at(regs, (sib & 7) | (u8)((rex & 1) << 3));
	} else if (rm == RBP && mod == 0) {
		is_rip = true;
	} else {
		address = *reg_at(regs, rm | (u8)((rex & 1) << 3));
	}
	if (mod == 1)
		address += take_signed(c, 1);
	else if (mod == 2 || is_rip || is_absolute)
		address += take_signed(c, 4);
	if (is_rip)
		address += regs->rip;
	return i->prefix.segment + (i->prefix.address32 ? truncate(address, 4) : address);
}

/* Where the bit that a register names really is. */
static u64 bit_displacement(const struct instruction *i, struct kvm_regs *regs)
{
	u64 bit = *reg_at(regs, i->reg);
	s64 index = i->size == 2 ? (s64)(s16)bit : i->size == 4 ? (s64)(s32)bit :
								  (s64)bit;

	return (u64)(index >> (i->size == 2 ? 4 : i->size == 4 ? 5 :
								 6)) *
	       i->size;
}

/* The operation found what it found, as far as it can be told from what came of it. False: it was not this one. */
static bool work_back(const struct instruction *i, const struct watch_write *w, struct watch_atomic *ret)
{
	u64 operand = i->immediate_size ? i->immediate : *reg_at(&ret->before, i->reg);
	u64 bit = 1ULL << (operand & (i->size * 8 - 1));
	bool carry = w->regs->rflags & FLAG_CARRY;

	if (is_high_byte(i) && !i->immediate_size)
		operand = get_reg(i, &ret->before);
	ret->kind = WATCH_ATOMIC_FROM;
	ret->operand = operand = truncate(operand, i->size);
	switch (i->op) {
	case OP_ADC:
		ret->kind = WATCH_ATOMIC_CARRY;
		ret->carry = ~0ULL;
		ret->expected = w->data - operand;
		break;
	case OP_SBB:
		ret->kind = WATCH_ATOMIC_CARRY;
		ret->carry = 1;
		ret->expected = w->data + operand;
		break;
	case OP_OR:
		ret->kind = WATCH_ATOMIC_OR;
		return (w->data & operand) == operand;
	case OP_AND:
		ret->kind = WATCH_ATOMIC_AND;
		return (w->data & ~operand) == 0;
	case OP_ADD:
		ret->expected = w->data - operand;
		break;
	case OP_SUB:
		ret->expected = w->data + operand;
		break;
	case OP_XOR:
		ret->expected = w->data ^ operand;
		break;
	case OP_INC:
		ret->expected = w->data - 1;
		break;
	case OP_DEC:
		ret->expected = w->data + 1;
		break;
	case OP_NOT:
		ret->expected = ~w->data;
		break;
	case OP_NEG:
		ret->expected = -w->data;
		break;
	case OP_SET: // the carry is what the bit was
		ret->expected = carry ? w->data : w->data & ~bit;
		return w->data & bit;
	case OP_RESET:
		ret->expected = carry ? w->data | bit : w->data;
		return !(w->data & bit);
	case OP_FLIP:
		ret->expected = w->data ^ bit;
		return carry != !!(w->data & bit);
	case OP_XCHG:
		ret->expected = operand;
		set_reg(i, &ret->before, w->data);
		return true;
	case OP_XADD:
		ret->expected = operand;
		set_reg(i, &ret->before, truncate(w->data - operand, i->size));
		return true;
	case OP_CMPXCHG:
		ret->expected = truncate(w->regs->rax, i->size);
		if (w->regs->rflags & FLAG_ZERO)
			return w->data == operand;
		ret->kind = WATCH_ATOMIC_FAILED;
		return w->data == ret->expected;
	case OP_CMPXCHG8B:
		ret->expected = truncate(w->regs->rax, 4) | w->regs->rdx << 32;
		if (w->regs->rflags & FLAG_ZERO)
			return w->data == (truncate(w->regs->rbx, 4) | w->regs->rcx << 32);
		ret->kind = WATCH_ATOMIC_FAILED;
		return w->data == ret->expected;
	case OP_MOV:
		return w->data == operand;
	default:
		return false;
	}
	ret->expected = truncate(ret->expected, i->size);
	return true;
}

/* XCHG locks by itself; a plain store cannot be locked. */
static bool is_lock_right(const struct instruction *i)
{
	if (i->op == OP_MOV)
		return !i->prefix.locked;
	return i->prefix.locked || i->op == OP_XCHG;
}

/* One that takes exactly these bytes and makes this write. */
static bool decode_at(const u8 *code, u32 size, const struct watch_write *w, enum operation *op,
		      struct watch_atomic *ret)
{
	struct cursor c = { .at = code, .end = code + size };
	struct instruction i = { .size = 4 };
	bool is_two_bytes = false;
	u8 opcode, modrm;

	take_prefixes(&c, w, &i.prefix);
	i.size = i.prefix.rex & 8 ? 8 : i.prefix.operand16 ? 2 :
							     4;
	opcode = (u8)take(&c, 1);
	if (opcode == 0x0f) {
		is_two_bytes = true;
		opcode = (u8)take(&c, 1);
	}
	modrm = (u8)take(&c, 1);
	if (c.failed || modrm >> 6 == 3)
		return false;
	if (is_two_bytes)
		identify_two_bytes(&i, opcode, modrm >> 3 & 7);
	else
		identify(&i, opcode, modrm >> 3 & 7);
	if (i.op == OP_NONE || i.size != w->size || !is_lock_right(&i))
		return false;
	i.reg = (u8)((modrm >> 3 & 7) | (i.prefix.rex & 4) << 1);

	// The address, and what is behind it, come before what the operation did to its registers is undone.
	const u8 *operand = c.at;

	take_address(&c, &i, modrm, &(struct kvm_regs){ 0 });
	i.immediate = take_signed(&c, i.immediate_size);
	if (c.failed || c.at != c.end)
		return false;
	ret->before = *w->regs;
	if (!work_back(&i, w, ret))
		return false;
	c.at = operand;
	i.address = take_address(&c, &i, modrm, &ret->before);
	if (i.is_bit_by_register)
		i.address += bit_displacement(&i, &ret->before);
	ret->before.rip = w->regs->rip - size;
	ret->address = i.address;
	*op = i.op;
	return (i.address & PAGE_MASK) == (w->gpa & PAGE_MASK);
}

bool watch_may_be_atomic(const u8 *code, u32 size)
{
	for (u32 i = 0; i + 1 < size; i++)
		if (code[i] == 0xf0 || (code[i] & 0xfe) == 0x86)
			return true;
	return false;
}

u32 watch_decode(const struct watch_write *w, struct watch_atomic ret[static WATCH_READINGS_MAX])
{
	u32 count = 0;

	// Where a plain store is as likely, it is that: the bytes of an atomic one seldom read as a store of the very
	// same data to the same place.
	for (u32 size = w->code_size; size >= 2; size--) {
		struct watch_atomic one = { 0 };
		enum operation op = OP_NONE;

		if (!decode_at(w->code + w->code_size - size, size, w, &op, &one))
			continue;
		if (op == OP_MOV)
			return 0;
		if (count < WATCH_READINGS_MAX)
			ret[count++] = one;
	}
	return count;
}

bool watch_atomic_fits(const struct watch_atomic *a, const struct watch_write *w, u64 value)
{
	switch (a->kind) {
	case WATCH_ATOMIC_OR:
		return truncate(value | a->operand, w->size) == w->data;
	case WATCH_ATOMIC_AND:
		return truncate(value & a->operand, w->size) == w->data;
	case WATCH_ATOMIC_CARRY:
		return value == a->expected || value == truncate(a->expected + a->carry, w->size);
	default:
		return value == a->expected;
	}
}
