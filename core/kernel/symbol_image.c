// SPDX-License-Identifier: GPL-2.0-or-later
#include <gelf.h>

#include "base/cleanup.h"
#include "kernel/kallsyms.h"
#include "kernel/symbol_elf.h"
#include "kernel/symbol_window.h"
#include "kernel/symbols.h"

/* Larger than that a kernel cannot be. */
#define MAX_SEGMENT (1ULL << 30)

static void elf_cleanup(Elf **elf)
{
	elf_end(*elf);
}

static bool get_load(Elf *elf, size_t i, GElf_Phdr *ret)
{
	return gelf_getphdr(elf, (int)i, ret) && ret->p_type == PT_LOAD && ret->p_filesz &&
	       ret->p_filesz <= MAX_SEGMENT;
}

static struct error *search_segment(int fd, const GElf_Phdr *ph, const struct kallsyms_image *bounds,
				    struct symbols **ret)
{
	struct symbol_window CLEANUP(symbol_window_deinit) w;
	struct kallsyms k;
	struct error *err = symbol_window_init(&w, fd, ph->p_offset, ph->p_vaddr, ph->p_filesz);

	if (!err)
		err = kallsyms_find(&w, bounds, &k);
	return err ? err : kallsyms_build(&k, bounds, ret);
}

static struct error *search_segments(Elf *elf, int fd, const struct kallsyms_image *bounds, struct symbols **ret)
{
	struct error *damage = NULL; /* told when no other segment has any */
	size_t count;
	GElf_Phdr ph;

	if (elf_getphdrnum(elf, &count) < 0)
		return error_create(ERROR_FORMAT, "its program headers are damaged");
	for (size_t i = 0; i < count; i++) {
		if (!get_load(elf, i, &ph))
			continue;

		struct error *err = search_segment(fd, &ph, bounds, ret);

		if (err && error_code(err) == ERROR_NOT_FOUND) {
			error_destroy(err);
			continue;
		}
		error_destroy(damage);
		if (!err || error_code(err) != ERROR_FORMAT)
			return err;
		damage = err;
	}
	if (damage)
		return damage;
	return error_with_hint(error_create(ERROR_FORMAT, "the kernel has neither a symbol table nor kallsyms"),
			       "build it with CONFIG_KALLSYMS=y and CONFIG_KALLSYMS_ALL=y");
}

/* Before 7.x per-CPU data is linked at 0, and a symbol of it is an offset. */
static u64 find_percpu_size(Elf *elf)
{
	size_t count = 0;
	GElf_Phdr ph;

	elf_getphdrnum(elf, &count);
	for (size_t i = 0; i < count; i++)
		if (get_load(elf, i, &ph) && !ph.p_vaddr)
			return ph.p_memsz;
	return 0;
}

struct error *symbols_create(const struct kernel_image *image, struct symbols **ret)
{
	const struct kernel_info *info = kernel_image_info(image);
	int fd = kernel_image_fd(image);

	elf_version(EV_CURRENT);

	Elf CLEANUP(elf_cleanup) *elf = elf_begin(fd, ELF_C_READ, NULL);

	if (!elf)
		return error_create(ERROR_FORMAT, "its ELF headers are damaged (%s)", elf_errmsg(-1));

	struct kallsyms_image bounds = {
		.start = info->link_virt,
		.end = info->link_virt + info->span,
		.percpu_size = find_percpu_size(elf),
	};
	struct error *err = symbol_elf_build(elf, bounds.start, bounds.end, ret);

	return err || *ret ? err : search_segments(elf, fd, &bounds, ret);
}
