// SPDX-License-Identifier: GPL-2.0-or-later
#include <gelf.h>
#include <stdio.h>
#include <string.h>

#include "kernel/lines_parts.h"

enum { ID_TEXT = 41 }; /* twenty bytes in hexadecimal, and a NUL */

static struct error *cut_short(void)
{
	return error_create(ERROR_FORMAT, "it is cut short, or its section headers are damaged");
}

static bool is_whole(Elf *elf, u64 file_size)
{
	Elf_Scn *section = NULL;
	size_t count;
	GElf_Shdr header;

	if (elf_getshdrnum(elf, &count) || !count)
		return false;
	while ((section = elf_nextscn(elf, section))) {
		if (!gelf_getshdr(section, &header))
			return false;
		if (header.sh_type != SHT_NOBITS &&
		    (header.sh_offset > file_size || header.sh_size > file_size - header.sh_offset))
			return false;
	}
	return true;
}

static bool has_section(Elf *elf, const char *name)
{
	Elf_Scn *section = NULL;
	size_t names;
	GElf_Shdr header;

	if (elf_getshdrstrndx(elf, &names))
		return false;
	while ((section = elf_nextscn(elf, section))) {
		if (!gelf_getshdr(section, &header) || header.sh_type == SHT_NOBITS)
			continue;

		const char *own = elf_strptr(elf, names, header.sh_name);

		// ".zdebug_line": compressed as binutils did before it was standardised.
		if (own && (!strcmp(own, name) || (!strncmp(own, ".z", 2) && !strcmp(own + 2, name + 1))))
			return true;
	}
	return false;
}

/* The bytes of the note; NULL: it has none. */
static const u8 *find_build_id(Elf *elf, size_t *size)
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	GElf_Nhdr note;

	while ((section = elf_nextscn(elf, section))) {
		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_NOTE)
			continue;

		Elf_Data *data = elf_getdata(section, NULL);
		size_t at = 0, next, name, desc;

		while (data && (next = gelf_getnote(data, at, &note, &name, &desc)) > 0) {
			const u8 *bytes = data->d_buf;

			if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof("GNU") &&
			    !memcmp(bytes + name, "GNU", sizeof("GNU"))) {
				*size = note.n_descsz;
				return bytes + desc;
			}
			at = next;
		}
	}
	return NULL;
}

static const char *put_id(const u8 *id, size_t size, char text[ID_TEXT])
{
	text[0] = 0;
	for (size_t i = 0; i < size && i < ID_TEXT / 2; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	return text;
}

static struct error *check_build_id(Elf *elf, const void *wanted, size_t wanted_size)
{
	size_t size;
	const u8 *id = find_build_id(elf, &size);
	char ours[ID_TEXT], its[ID_TEXT];

	if (id && size == wanted_size && !memcmp(id, wanted, size))
		return NULL;
	put_id(wanted, wanted_size, ours);
	if (!id)
		return error_create(ERROR_UNSUPPORTED, "it has no build ID, and the kernel's is %s", ours);
	return error_create(ERROR_UNSUPPORTED, "it is of another build than the kernel: its build ID is %s, and the "
					       "kernel's is %s",
			    put_id(id, size, its), ours);
}

struct error *line_file_check(Elf *elf, u64 file_size, const void *build_id, size_t build_id_size)
{
	GElf_Ehdr header;

	if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header))
		return error_create(ERROR_FORMAT, "it is no ELF file");
	if (gelf_getclass(elf) != ELFCLASS64 || header.e_machine != EM_X86_64)
		return error_create(ERROR_UNSUPPORTED, "it is not of x86-64");
	if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
		return error_create(ERROR_UNSUPPORTED, "it is not linked");
	if (!is_whole(elf, file_size))
		return cut_short();

	struct error *err = build_id ? check_build_id(elf, build_id, build_id_size) : NULL;

	if (err)
		return err;
	if (!has_section(elf, ".debug_info") || !has_section(elf, ".debug_line"))
		return error_with_hint(error_create(ERROR_UNSUPPORTED, "it has no debugging information (DWARF)"),
				       "a distribution has that in a debug package; one's own kernel wants "
				       "CONFIG_DEBUG_INFO, and its vmlinux not stripped");
	return NULL;
}

u64 line_file_lowest(Elf *elf)
{
	size_t count = 0;
	u64 lowest = UINT64_MAX;
	GElf_Phdr segment;

	elf_getphdrnum(elf, &count);
	for (size_t i = 0; i < count; i++)
		if (gelf_getphdr(elf, (int)i, &segment) && segment.p_type == PT_LOAD && (segment.p_flags & PF_X) &&
		    segment.p_vaddr < lowest)
			lowest = segment.p_vaddr;
	return lowest;
}
