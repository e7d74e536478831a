/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The symbols of a vmlinux that has a .symtab: that of a build tree, as a distribution's debug package has it.
 * Depends on base, libelf and symbol_set.h.
 * Those of what is loaded, files, sections and local labels left out.
 */
#ifndef KERNEL_SYMBOL_ELF_H
#define KERNEL_SYMBOL_ELF_H

#include <libelf.h>

#include "base/error.h"
#include "kernel/symbols.h"

/* *ret NULL: it has none. ERROR_FORMAT: damaged. [start, end): the image's addresses. */
MUST_CHECK struct error *symbol_elf_build(Elf *elf, u64 start, u64 end, struct symbols **ret);

#endif
