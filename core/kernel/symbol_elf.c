// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/symbol_elf.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "kernel/symbol_set.h"

struct entry {
	u64 address;
	u32 index; /* in .symtab */
	char kind;
};

struct table {
	Elf *elf;
	Elf_Data *data;
	size_t strings; /* section of their names */
	u32 count;
	struct entry *entries;
	u32 used;
};

static struct error *damaged(const char *why)
{
	return error_create(ERROR_FORMAT, "its symbol table is damaged (%s)", why);
}

/* nm's lower-case letter for what a section holds; 0 for what is not loaded. */
static char section_kind(Elf *elf, size_t index)
{
	GElf_Shdr sh;

	if (!gelf_getshdr(elf_getscn(elf, index), &sh) || !(sh.sh_flags & SHF_ALLOC))
		return 0;
	if (sh.sh_flags & SHF_EXECINSTR)
		return 't';
	if (sh.sh_type == SHT_NOBITS)
		return 'b';
	return sh.sh_flags & SHF_WRITE ? 'd' : 'r';
}

/* nm's letter; 0: not a symbol of anything in memory. */
static char symbol_kind(const struct table *t, const GElf_Sym *sym)
{
	u32 type = GELF_ST_TYPE(sym->st_info), bind = GELF_ST_BIND(sym->st_info);
	char kind;

	if (type == STT_FILE || type == STT_SECTION || type == STT_TLS || sym->st_shndx == SHN_UNDEF)
		return 0;
	if (sym->st_shndx == SHN_ABS)
		kind = 'a';
	else if (sym->st_shndx >= SHN_LORESERVE)
		return 0;
	else
		kind = section_kind(t->elf, sym->st_shndx);
	if (kind && kind != 'a' && bind == STB_WEAK)
		return type == STT_OBJECT ? 'V' : 'W';
	return kind && bind != STB_LOCAL ? (char)(kind - 'a' + 'A') : kind;
}

/* NULL: no name that anybody would ask for. */
static const char *symbol_name(const struct table *t, u32 index)
{
	GElf_Sym sym;
	const char *name = gelf_getsym(t->data, (int)index, &sym) ? elf_strptr(t->elf, t->strings, sym.st_name) : NULL;

	return name && *name && strncmp(name, ".L", 2) != 0 ? name : NULL;
}

static struct error *take_entries(struct table *t)
{
	for (u32 i = 0; i < t->count; i++) {
		GElf_Sym sym;

		if (!gelf_getsym(t->data, (int)i, &sym) || !elf_strptr(t->elf, t->strings, sym.st_name))
			return damaged("a name outside of it");

		char kind = symbol_kind(t, &sym);

		if (kind && symbol_name(t, i))
			t->entries[t->used++] = (struct entry){ .address = sym.st_value, .index = i, .kind = kind };
	}
	return NULL;
}

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

static struct error *put_entries(const struct table *t, struct symbol_builder *b, u64 start, u64 end)
{
	for (u32 i = 0; i < t->used; i++) {
		const struct entry *e = &t->entries[i];
		const char *name = symbol_name(t, e->index);
		size_t size = strlen(name) + 1;
		char *room = symbol_builder_room(b, size);

		if (!room)
			return error_no_memory();
		memcpy(room, name, size);
		b->a.names[i] = b->pool_used;
		b->pool_used += size;
		b->a.addresses[i] = e->address;
		// The end itself is an address of the image's, too: _end.
		b->a.kinds[i] = e->kind | (e->address >= start && e->address <= end ? SYMBOL_MOVES : 0);
	}
	return symbol_builder_sort(b);
}

static struct error *build(struct table *t, u64 start, u64 end, struct symbols **ret)
{
	struct symbol_builder b = { 0 };
	struct error *err = take_entries(t);

	if (err || !t->used)
		return err;
	qsort(t->entries, t->used, sizeof(*t->entries), compare_entries);
	err = symbol_builder_init(&b, t->used);
	if (!err)
		err = put_entries(t, &b, start, end);
	if (!err)
		err = symbol_builder_finish(&b, start, end, ret);
	symbol_builder_deinit(&b);
	return err;
}

struct error *symbol_elf_build(Elf *elf, u64 start, u64 end, struct symbols **ret)
{
	struct table t = { .elf = elf };
	Elf_Scn *section = NULL;
	GElf_Shdr sh;

	*ret = NULL;
	while ((section = elf_nextscn(elf, section)))
		if (gelf_getshdr(section, &sh) && sh.sh_type == SHT_SYMTAB)
			break;
	if (!section)
		return NULL;
	t.data = elf_getdata(section, NULL);
	if (!t.data || sh.sh_entsize != sizeof(Elf64_Sym) || t.data->d_size / sizeof(Elf64_Sym) > SYMBOL_MAX_COUNT)
		return damaged("its size");
	t.strings = sh.sh_link;
	t.count = t.data->d_size / sizeof(Elf64_Sym);
	t.entries = malloc((t.count ? t.count : 1) * sizeof(*t.entries));

	struct error *err = t.entries ? build(&t, start, end, ret) : error_no_memory();

	free(t.entries);
	return err;
}
