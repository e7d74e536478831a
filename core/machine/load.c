// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>
#include <sys/random.h>

#include "machine/internal.h"
#include "x86/acpi.h"
#include "x86/boot.h"
#include "x86/layout.h"

static struct error *place_kernel(struct machine *m, const struct machine_config *config,
				  struct kernel_place *place)
{
	struct kernel_room room = {
		.low_ram = m->memory.size < LAYOUT_HOLE_START ? m->memory.size : LAYOUT_HOLE_START,
		.initrd_size = config->initrd_size,
	};
	u64 entropy;

	if (getrandom(&entropy, sizeof(entropy), 0) != sizeof(entropy))
		return error_create_errno("getrandom for the kernel's address");
	return kernel_image_place(config->kernel, &room, config->kaslr ? &entropy : NULL, place);
}

static struct error *load_initrd(struct machine *m, const struct machine_config *config,
				 const struct boot_kernel *kernel, u64 *gpa)
{
	*gpa = 0;
	if (!config->initrd_size)
		return NULL;

	struct error *err = boot_place_initrd(&m->memory, kernel, config->initrd_size, gpa);

	if (err)
		return err;
	memcpy(guest_memory_at(&m->memory, *gpa, config->initrd_size), config->initrd, config->initrd_size);
	return NULL;
}

static struct error *load_acpi(struct machine *m)
{
	struct buf tables = BUF_INIT;
	struct error *err = acpi_build(&m->topology, LAYOUT_ACPI_GPA, &tables);

	if (!err && tables.size > LAYOUT_ACPI_SIZE)
		err = error_create(ERROR_UNSUPPORTED, "the ACPI tables have %zu bytes, and %llu are there for them",
				   tables.size, (unsigned long long)LAYOUT_ACPI_SIZE);
	if (!err)
		memcpy(guest_memory_at(&m->memory, LAYOUT_ACPI_GPA, tables.size), tables.data, tables.size);
	buf_deinit(&tables);
	return err;
}

struct error *machine_load_guest(struct machine *m, const struct machine_config *config, u64 *entry)
{
	const struct kernel_info *info = kernel_image_info(config->kernel);
	const struct kernel_place *place = &m->kernel.place;
	struct error *err = place_kernel(m, config, &m->kernel.place);

	if (!err)
		err = kernel_image_load(config->kernel, &m->memory, place);
	if (err)
		return err;
	m->kernel.link_virt = info->link_virt;
	m->kernel.span = info->span;
	m->kernel.levels = config->la57 ? 5 : 4;
	*entry = kernel_image_entry(config->kernel, place);

	struct boot_options boot = {
		.kernel = {
			.load_gpa = place->phys,
			.span = info->span,
			.entry_gpa = *entry,
			.setup_header = info->setup_header_size ? info->setup_header : NULL,
			.setup_header_size = info->setup_header_size,
		},
		.cmdline = config->cmdline,
		.initrd_size = config->initrd_size,
		.rsdp_gpa = LAYOUT_ACPI_GPA,
		.kaslr = config->kaslr && info->relocatable,
	};

	err = load_initrd(m, config, &boot.kernel, &boot.initrd_gpa);
	if (!err)
		err = load_acpi(m);
	if (!err)
		err = boot_write(&m->memory, &boot);
	return err;
}
