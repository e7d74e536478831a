// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/build_id.h"

#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

/* The notes of one segment. */
static bool find_note(const u8 *data, size_t size, char *ret)
{
	while (size >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)data;
		size_t name = ALIGN_UP((size_t)note->n_namesz, 4), desc = ALIGN_UP((size_t)note->n_descsz, 4);
		size_t whole = sizeof(*note) + name + desc;

		if (whole > size)
			return false;
		if (note->n_type == NT_GNU_BUILD_ID && name == 4 && memcmp(note + 1, "GNU", 4) == 0 &&
		    note->n_descsz * 2 < BUILD_ID_TEXT_MAX) {
			const u8 *id = (const u8 *)(note + 1) + name;

			for (u32 i = 0; i < note->n_descsz; i++)
				sprintf(ret + (size_t)2 * i, "%02x", id[i]);
			return true;
		}
		data += whole;
		size -= whole;
	}
	return false;
}

static int look_at(struct dl_phdr_info *info, size_t size, void *arg)
{
	for (u32 i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_NOTE && find_note((const u8 *)info->dlpi_addr + p->p_vaddr, p->p_memsz, arg))
			break;
	}
	return 1; // the first one is the program itself
}

void build_id_text(char ret[BUILD_ID_TEXT_MAX])
{
	ret[0] = 0;
	dl_iterate_phdr(look_at, ret);
}
