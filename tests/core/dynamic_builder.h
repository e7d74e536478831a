/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small ELF programs and libraries made by hand: what the dynamic loader reads, and no code.
 * Depends on base. Nothing of core/image takes part in it.
 * Every step that fails aborts.
 */
#ifndef TESTS_DYNAMIC_BUILDER_H
#define TESTS_DYNAMIC_BUILDER_H

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

enum { DYNAMIC_MAX_NEEDED = 4,
       DYNAMIC_ADDRESS = 0x10000 };

/* NULL: left out. */
struct dynamic_options {
	const char *interpreter, *soname, *rpath, *runpath;
	const char *needed[DYNAMIC_MAX_NEEDED];
	bool no_default_dirs;
	u16 machine; /* 0: EM_X86_64 */
	u16 type; /* 0: ET_DYN */
};

/* What the file is put together from; entries point into strings. */
struct dynamic_parts {
	struct buf strings;
	Elf64_Dyn entries[DYNAMIC_MAX_NEEDED + 8];
	size_t count;
};

static inline void dynamic_put(struct dynamic_parts *p, s64 tag, u64 value)
{
	p->entries[p->count++] = (Elf64_Dyn){ .d_tag = tag, .d_un.d_val = value };
}

static inline void dynamic_put_string(struct dynamic_parts *p, s64 tag, const char *s)
{
	if (!s)
		return;
	dynamic_put(p, tag, p->strings.size);
	buf_put(&p->strings, s, strlen(s) + 1);
}

static inline void build_dynamic(struct buf *b, const struct dynamic_options *o)
{
	struct dynamic_parts p = { 0 };
	Elf64_Phdr ph[3];
	Elf64_Ehdr e = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = o->type ? o->type : ET_DYN,
		.e_machine = o->machine ? o->machine : EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(e),
		.e_ehsize = sizeof(e),
		.e_phentsize = sizeof(Elf64_Phdr),
	};

	buf_put_u8(&p.strings, 0);
	for (size_t i = 0; i < DYNAMIC_MAX_NEEDED; i++)
		dynamic_put_string(&p, DT_NEEDED, o->needed[i]);
	dynamic_put_string(&p, DT_SONAME, o->soname);
	dynamic_put_string(&p, DT_RPATH, o->rpath);
	dynamic_put_string(&p, DT_RUNPATH, o->runpath);
	if (o->no_default_dirs)
		dynamic_put(&p, DT_FLAGS_1, DF_1_NODEFLIB);

	u64 interpreter = sizeof(e) + sizeof(ph);
	u64 strings = interpreter + (o->interpreter ? strlen(o->interpreter) + 1 : 0);
	u64 dynamic = ALIGN_UP(strings + p.strings.size, 8);

	dynamic_put(&p, DT_STRTAB, DYNAMIC_ADDRESS + strings);
	dynamic_put(&p, DT_STRSZ, p.strings.size);
	dynamic_put(&p, DT_NULL, 0);

	u64 end = dynamic + p.count * sizeof(Elf64_Dyn);

	memset(ph, 0, sizeof(ph));
	ph[0].p_type = PT_LOAD;
	ph[0].p_vaddr = DYNAMIC_ADDRESS;
	ph[0].p_filesz = ph[0].p_memsz = end;
	ph[1].p_type = PT_DYNAMIC;
	ph[1].p_offset = dynamic;
	ph[1].p_vaddr = DYNAMIC_ADDRESS + dynamic;
	ph[1].p_filesz = ph[1].p_memsz = end - dynamic;
	ph[2].p_type = o->interpreter ? PT_INTERP : PT_NULL;
	ph[2].p_offset = interpreter;
	ph[2].p_filesz = ph[2].p_memsz = strings - interpreter;
	e.e_phnum = ARRAY_SIZE(ph);
	buf_put(b, &e, sizeof(e));
	buf_put(b, ph, sizeof(ph));
	if (o->interpreter)
		buf_put(b, o->interpreter, strlen(o->interpreter) + 1);
	buf_put(b, p.strings.data, p.strings.size);
	buf_align(b, 8);
	buf_put(b, p.entries, p.count * sizeof(Elf64_Dyn));
	if (b->failed || p.strings.failed || b->size != end)
		abort();
	buf_deinit(&p.strings);
}

#endif
