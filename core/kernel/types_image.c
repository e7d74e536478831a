// SPDX-License-Identifier: GPL-2.0-or-later
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/kernel.h"
#include "kernel/types_internal.h"

struct place {
	u64 offset, size; /* in the image; size 0: nowhere */
};

static void cleanup_elf(Elf **elf)
{
	elf_end(*elf);
}

/* By the name of the section; section headers that libelf cannot read are as good as none. */
static struct place find_section(int fd, u64 size)
{
	struct place place = { 0 };
	size_t names;

	elf_version(EV_CURRENT);

	CLEANUP(cleanup_elf)
	Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);

	if (!elf || elf_kind(elf) != ELF_K_ELF || elf_getshdrstrndx(elf, &names))
		return place;
	for (Elf_Scn *s = elf_nextscn(elf, NULL); s; s = elf_nextscn(elf, s)) {
		GElf_Shdr header;
		const char *name = gelf_getshdr(s, &header) ? elf_strptr(elf, names, header.sh_name) : NULL;

		if (name && !strcmp(name, ".BTF") && header.sh_type == SHT_PROGBITS && header.sh_offset <= size &&
		    header.sh_size <= size - header.sh_offset)
			place = (struct place){ header.sh_offset, header.sh_size };
	}
	return place;
}

/* Bytes of the BTF that begins at p, by its header: sections without a gap, as pahole writes them; or 0. */
static u64 blob_size(const u8 *p, u64 left)
{
	struct btf_header h;

	if (left < sizeof(h))
		return 0;
	memcpy(&h, p, sizeof(h));

	u64 size = (u64)h.hdr_len + h.str_off + h.str_len;

	if (h.magic != BTF_MAGIC || h.version != BTF_VERSION || h.flags || h.hdr_len < sizeof(h) ||
	    h.hdr_len > 256 || h.type_off || h.str_off != h.type_len || !h.type_len || !h.str_len || size > left)
		return 0;
	return size;
}

/*
 * Without section headers: the largest blob that looks like one. Smaller ones may lie about in programs that the
 * kernel brings along; one that turns out damaged is an error then.
 */
static struct place scan(const u8 *image, u64 size)
{
	static const u8 begin[] = { BTF_MAGIC & 0xff, BTF_MAGIC >> 8, BTF_VERSION, 0 };
	struct place best = { 0 };

	for (const u8 *p = image; (p = memmem(p, image + size - p, begin, sizeof(begin))); p++) {
		u64 found = blob_size(p, image + size - p);

		if (found > best.size)
			best = (struct place){ p - image, found };
	}
	return best;
}

static struct error *find_blob(int fd, u64 size, struct place *ret)
{
	*ret = find_section(fd, size);
	if (ret->size || !size)
		return NULL;

	void *image = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);

	if (image == MAP_FAILED)
		return error_create_errno("cannot map the kernel image");
	*ret = scan(image, size);
	munmap(image, size);
	return NULL;
}

static struct error *read_blob(int fd, const struct place *place, void *data)
{
	u64 done = 0;

	while (done < place->size) {
		ssize_t n = pread(fd, (u8 *)data + done, place->size - done, place->offset + done);

		if (n < 0)
			return error_create_errno("cannot read the kernel image");
		if (!n)
			return error_create(ERROR_FORMAT, "it is cut short in its BTF");
		done += n;
	}
	return NULL;
}

static struct error *create_from_image(const struct kernel_image *image, struct types **ret)
{
	int fd = kernel_image_fd(image);
	struct place place;
	struct error *err = find_blob(fd, kernel_image_size(image), &place);

	if (err)
		return err;
	if (!place.size)
		return error_with_hint(
			error_create(ERROR_NOT_FOUND, "there is no BTF in it"),
			"take a kernel that was built with CONFIG_DEBUG_INFO_BTF, as distributions' are");
	if (place.size > BTF_MAX_SIZE)
		return error_create(ERROR_UNSUPPORTED, "BTF of %llu bytes; at most %u are read",
				    (unsigned long long)place.size, BTF_MAX_SIZE);

	CLEANUP_FREE void *blob = malloc(place.size);

	if (!blob)
		return error_no_memory();
	err = read_blob(fd, &place, blob);
	if (!err)
		err = types_create_private(blob, place.size, NULL, ret);
	return err;
}

struct error *types_create_image(const struct kernel_image *image, struct types **ret)
{
	return error_with_context(create_from_image(image, ret), "types of the kernel image");
}
