// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/disasm.h"

#include <capstone/capstone.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define TEXT_OF(x) #x
#define LIBRARY(major) "libcapstone.so." TEXT_OF(major)

/* The library's functions: its 77,000 relocations would cost every start of the program a quarter of a millisecond. */
struct disassembler {
	void *library;
	csh handle; /* 0: none */
	cs_insn *scratch;
	__typeof__(cs_version) *version;
	__typeof__(cs_open) *open;
	__typeof__(cs_close) *close;
	__typeof__(cs_option) *option;
	__typeof__(cs_malloc) *malloc;
	__typeof__(cs_free) *free;
	__typeof__(cs_disasm_iter) *iterate;
	__typeof__(cs_strerror) *strerror;
};

static struct error *unusable(const char *why)
{
	return error_with_hint(error_create(ERROR_UNSUPPORTED, "cannot disassemble: %s", why),
			       "install libcapstone %d (on Debian libcapstone-dev brings it)", CS_API_MAJOR);
}

void disassembler_destroy(struct disassembler *d)
{
	if (!d)
		return;
	if (d->scratch)
		d->free(d->scratch, 1);
	if (d->handle)
		d->close(&d->handle);
	if (d->library)
		dlclose(d->library);
	free(d);
}

static void disassembler_cleanup(struct disassembler **d)
{
	disassembler_destroy(*d);
}

/* NULL, or why it cannot be used. */
static const char *load_library(struct disassembler *d)
{
	const struct {
		const char *name;
		void **function;
	} functions[] = {
		{ "cs_version", (void **)&d->version },
		{ "cs_open", (void **)&d->open },
		{ "cs_close", (void **)&d->close },
		{ "cs_option", (void **)&d->option },
		{ "cs_malloc", (void **)&d->malloc },
		{ "cs_free", (void **)&d->free },
		{ "cs_disasm_iter", (void **)&d->iterate },
		{ "cs_strerror", (void **)&d->strerror },
	};
	int major, minor;

	d->library = dlopen(LIBRARY(CS_API_MAJOR), RTLD_NOW | RTLD_LOCAL);
	if (!d->library)
		return dlerror() ?: "it is not there";
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		*functions[i].function = dlsym(d->library, functions[i].name);
		if (!*functions[i].function)
			return dlerror() ?: functions[i].name;
	}
	d->version(&major, &minor);
	return major == CS_API_MAJOR ? NULL : "libcapstone is another version than its name says";
}

struct error *disassembler_create(struct disassembler **ret)
{
	CLEANUP(disassembler_cleanup)
	struct disassembler *d = calloc(1, sizeof(*d));

	if (!d)
		return error_no_memory();

	const char *why = load_library(d);

	if (why)
		return unusable(why);

	cs_err failed = d->open(CS_ARCH_X86, CS_MODE_64, &d->handle);

	if (!failed)
		failed = d->option(d->handle, CS_OPT_DETAIL, CS_OPT_ON);
	if (!failed)
		failed = d->option(d->handle, CS_OPT_SYNTAX, CS_OPT_SYNTAX_ATT);
	if (failed)
		return unusable(d->strerror(failed));
	d->scratch = d->malloc(d->handle);
	if (!d->scratch)
		return error_no_memory();
	*ret = no_free(d);
	return NULL;
}

static bool in_group(const cs_detail *detail, u8 group)
{
	for (u32 i = 0; i < detail->groups_count; i++)
		if (detail->groups[i] == group)
			return true;
	return false;
}

static void find_addresses(const cs_insn *in, struct instruction *out)
{
	const cs_detail *detail = in->detail;
	bool branch = in_group(detail, CS_GRP_JUMP) || in_group(detail, CS_GRP_CALL) ||
		      in_group(detail, CS_GRP_BRANCH_RELATIVE);

	for (u32 i = 0; i < detail->x86.op_count; i++) {
		const cs_x86_op *op = &detail->x86.operands[i];

		if (op->type == X86_OP_IMM && branch)
			out->target = (u64)op->imm;
		else if (op->type == X86_OP_MEM && op->mem.base == X86_REG_RIP)
			out->memory = in->address + in->size + (u64)op->mem.disp;
	}
}

static void put_instruction(const cs_insn *in, struct instruction *out)
{
	*out = (struct instruction){ .address = in->address, .length = in->size, .valid = true };
	memcpy(out->bytes, in->bytes, in->size < INSTRUCTION_MAX ? in->size : INSTRUCTION_MAX);
	find_addresses(in, out);
	if (in->op_str[0])
		snprintf(out->text, sizeof(out->text), "%-7s %s", in->mnemonic, in->op_str);
	else
		snprintf(out->text, sizeof(out->text), "%s", in->mnemonic);
}

static void put_byte(u8 byte, u64 address, struct instruction *out)
{
	*out = (struct instruction){ .address = address, .length = 1, .bytes = { byte } };
	snprintf(out->text, sizeof(out->text), ".byte   0x%02x", byte);
}

u32 disassembler_run(struct disassembler *d, const void *bytes, size_t size, u64 address, struct instruction *ret,
		     u32 max)
{
	const u8 *at = bytes;
	u32 count = 0;

	while (size && count < max) {
		const u8 *next = at;
		size_t left = size;
		uint64_t next_address = address;

		if (d->iterate(d->handle, &next, &left, &next_address, d->scratch))
			put_instruction(d->scratch, &ret[count]);
		else
			put_byte(*at, address, &ret[count]);
		at += ret[count].length;
		size -= ret[count].length;
		address += ret[count].length;
		count++;
	}
	return count;
}
