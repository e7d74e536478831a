// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/bzimage.h"
#include "image/decompress.h"
#include "image/kernel_image.h"
#include "image/store.h"

enum {
	DETECT_SIZE = 4096, /* bytes that tell what a file is */
	BZIMAGE_MAX = 256 << 20,
};

/* Memory for what a bzImage unpacks to; pages come as they are written. */
struct unpacked {
	u8 *data;
	size_t size;
};

static void unpacked_release(struct unpacked *u)
{
	if (u->data)
		munmap(u->data, u->size);
}

/* The parts that were opened so far, in a scope that may fail. */
static void close_image(struct kernel_image **image)
{
	kernel_image_close(*image);
}

static struct error *not_a_kernel(const char *what)
{
	return error_create(ERROR_FORMAT, "%s", what);
}

/* What a file is that is neither a bzImage nor ELF, as far as it is worth telling. */
static struct error *describe_other(const u8 *data, size_t size)
{
	if (!size)
		return not_a_kernel("it is empty");
	if (size >= 0x3c && !memcmp(data + 0x38, "ARM\x64", 4))
		return error_create(ERROR_UNSUPPORTED,
				    "it is for arm64; ktstr boots x86-64 kernels");
	if (size >= 0x3c && !memcmp(data + 0x38, "RSC\x05", 4))
		return error_create(ERROR_UNSUPPORTED,
				    "it is for RISC-V; ktstr boots x86-64 kernels");
	if (size >= 0x28 && !memcmp(data + 0x24, "\x18\x28\x6f\x01", 4))
		return error_create(ERROR_UNSUPPORTED, "it is for arm; ktstr boots x86-64 kernels");
	if (size >= 8 && !memcmp(data, "MZ", 2) && !memcmp(data + 4, "zimg", 4))
		return error_create(
			ERROR_UNSUPPORTED,
			"it is an EFI zboot image, which x86-64 kernels are not packed in");
	return not_a_kernel("it is neither a bzImage nor an ELF file");
}

/* The file that path means; *ret is the caller's to free, NULL when memory is short. */
static struct error *resolve(const char *path, char **ret)
{
	static const char *const in_tree[] = { "arch/x86/boot/bzImage", "vmlinux" };
	struct stat st;

	if (stat(path, &st) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return error_create(ERROR_NOT_FOUND, "there is no file '%s'", path);
		return error_create_errno("cannot open '%s'", path);
	}
	if (!S_ISDIR(st.st_mode)) {
		if (!S_ISREG(st.st_mode))
			return error_create(ERROR_FORMAT,
					    "'%s' is not a kernel image: it is not a file", path);
		*ret = strdup(path);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(in_tree); i++) {
		char CLEANUP_FREE *candidate = NULL;

		if (asprintf(&candidate, "%s/%s", path, in_tree[i]) < 0) {
			candidate = NULL;
			return error_no_memory();
		}
		if (!access(candidate, F_OK)) {
			*ret = no_free(candidate);
			return NULL;
		}
	}
	return error_create(
		ERROR_NOT_FOUND,
		"'%s' is not a kernel build tree: it has no arch/x86/boot/bzImage and no vmlinux",
		path);
}

/* All of a file of size bytes, from malloc. */
static struct error *read_file(int fd, size_t size, u8 **ret)
{
	if (size > BZIMAGE_MAX)
		return not_a_kernel("it is larger than any bzImage");

	u8 CLEANUP_FREE *data = malloc(size);

	if (!data)
		return error_no_memory();

	struct error *err = vmlinux_read(fd, data, size, 0);

	if (err)
		return err;
	*ret = no_free(data);
	return NULL;
}

static struct error *unpack(const struct bzimage *b, struct unpacked *ret)
{
	if (b->vmlinux_size < DETECT_SIZE || b->vmlinux_size > VMLINUX_MAX_SPAN)
		return error_with_hint(error_create(ERROR_FORMAT,
						    "its payload says that it unpacks to %u bytes",
						    b->vmlinux_size),
				       "fetch or build it again");
	ret->size = b->vmlinux_size;

	void *p = mmap(NULL, ret->size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return error_no_memory();
	ret->data = p;
	(void)madvise(p, ret->size, MADV_HUGEPAGE); // for speed alone
	return decompress(b->compression, b->payload, b->payload_size, ret->data, ret->size);
}

static void fill_info(struct kernel_image *image, u64 align)
{
	const struct vmlinux *v = &image->vmlinux;
	struct kernel_info *info = &image->info;

	info->relocatable = v->relocatable;
	info->link_phys = v->link_phys;
	info->link_virt = v->link_virt;
	info->span = v->span;
	info->entry = v->entry;
	info->align = align;
	if (!info->release[0])
		memcpy(info->release, v->release, sizeof(info->release));
}

/* What relocation presumes: addresses that may be moved by whole multiples of align. */
static struct error *check_relocatable(const struct kernel_info *info)
{
	if (!info->relocatable)
		return NULL;
	if (info->align < VMLINUX_MIN_ALIGN || info->align & (info->align - 1) ||
	    info->align > VMLINUX_MAX_SPAN || info->link_phys % info->align ||
	    info->link_virt % info->align)
		return error_create(ERROR_FORMAT,
				    "its alignment of 0x%llx is none that it can be moved by",
				    (unsigned long long)info->align);
	if (info->link_virt < VMLINUX_KERNEL_MAP ||
	    info->link_virt - VMLINUX_KERNEL_MAP + info->span > VMLINUX_MAX_SPAN)
		return error_create(ERROR_FORMAT,
				    "it is linked outside the kernel's part of the address space");
	return NULL;
}

/* Takes an image's data apart; out, when given, is left holding what the bzImage unpacks to. */
static struct error *open_bzimage(const u8 *data, size_t size, struct kernel_image *image,
				  struct unpacked *out)
{
	struct bzimage b;
	int fd = -1;
	struct error *err;

	err = bzimage_parse(data, size, &b);
	if (err)
		return err;
	err = unpack(&b, out);
	if (err)
		return err;
	if (!vmlinux_detect(out->data, out->size))
		return not_a_kernel("its payload is not an ELF file");
	err = store_memory(out->data, out->size, &fd);
	if (err)
		return err;
	err = vmlinux_open(fd, true, &image->vmlinux);
	if (err)
		return err;

	struct kernel_info *info = &image->info;

	info->format = KERNEL_FORMAT_BZIMAGE;
	info->compression = b.compression;
	info->verified = b.verified;
	memcpy(info->setup_header, b.setup_header, b.setup_header_size);
	info->setup_header_size = b.setup_header_size;
	memcpy(info->release, b.release, sizeof(info->release));
	fill_info(image, b.align ? b.align : VMLINUX_MIN_ALIGN);
	return NULL;
}

/* Takes fd's value in any case. */
static struct error *open_vmlinux(int *fd, struct kernel_image *image)
{
	struct error *err = vmlinux_open(no_close(*fd), false, &image->vmlinux);

	if (err)
		return err;
	image->info.format = KERNEL_FORMAT_VMLINUX;
	fill_info(image, VMLINUX_MIN_ALIGN);
	return NULL;
}

static struct error *open_fd(int *fd, struct kernel_image *image, struct unpacked *out)
{
	u8 head[DETECT_SIZE];
	struct stat st;

	if (fstat(*fd, &st) < 0)
		return error_create_errno("cannot examine it");

	size_t n = st.st_size < DETECT_SIZE ? st.st_size : DETECT_SIZE;
	struct error *err = vmlinux_read(*fd, head, n, 0);

	if (err)
		return err;
	if (vmlinux_detect(head, n)) {
		err = open_vmlinux(fd, image);
	} else if (bzimage_detect(head, n)) {
		u8 CLEANUP_FREE *data = NULL;

		err = read_file(*fd, st.st_size, &data);
		if (!err)
			err = open_bzimage(data, st.st_size, image, out);
	} else {
		err = describe_other(head, n);
	}
	return err ? err : check_relocatable(&image->info);
}

/* Says which file, and what to do about it. */
static struct error *explain(struct error *err, const char *path)
{
	enum error_code code = error_code(err);

	if (code != ERROR_FORMAT && code != ERROR_UNSUPPORTED)
		return error_with_context(err, "'%s'", path);
	if (!error_hint(err))
		err = error_with_hint(err,
				      "give a bzImage, a vmlinux or a kernel build tree (x86-64)");
	return error_with_context(err, "'%s' is not a usable kernel image", path);
}

static struct error *open_image(const char *path, struct kernel_image **ret, struct unpacked *out)
{
	char CLEANUP_FREE *file = NULL;
	struct error *err = resolve(path, &file);

	if (err && error_code(err) == ERROR_OS)
		return err;
	if (err)
		return error_with_hint(err, "give a bzImage, a vmlinux or a kernel build tree");
	if (!file)
		return error_no_memory();

	int CLEANUP_CLOSE fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_create_errno("cannot open '%s'", file);

	struct kernel_image CLEANUP(close_image) *image = calloc(1, sizeof(*image));

	if (!image)
		return error_no_memory();
	image->vmlinux.fd = -1;
	err = open_fd(&fd, image, out);
	if (err)
		return explain(err, file);
	*ret = no_free(image);
	return NULL;
}

struct error *kernel_image_open(const char *path, struct kernel_image **ret)
{
	struct unpacked CLEANUP(unpacked_release) out = { 0 };

	return open_image(path, ret, &out);
}

void kernel_image_close(struct kernel_image *image)
{
	if (!image)
		return;
	vmlinux_close(&image->vmlinux);
	free(image);
}

struct error *kernel_image_extract(const char *path, const char *out_path)
{
	struct unpacked CLEANUP(unpacked_release) out = { 0 };
	struct kernel_image CLEANUP(close_image) *image = NULL;
	struct error *err = open_image(path, &image, &out);

	if (err)
		return err;
	if (!out.data)
		return error_create(ERROR_INVALID,
				    "'%s' is not a bzImage: there is nothing to extract", path);
	return store_file(out_path, out.data, out.size);
}

const struct kernel_info *kernel_image_info(const struct kernel_image *image)
{
	return &image->info;
}

int kernel_image_fd(const struct kernel_image *image)
{
	return image->vmlinux.fd;
}

u64 kernel_image_size(const struct kernel_image *image)
{
	return image->vmlinux.stat.st_size;
}

const char *kernel_format_name(enum kernel_format format)
{
	return format == KERNEL_FORMAT_BZIMAGE ? "bzImage" : "vmlinux";
}

const char *kernel_compression_name(enum kernel_compression c)
{
	static const char *const names[] = {
		[KERNEL_COMPRESSION_ZSTD] = "zstd",
		[KERNEL_COMPRESSION_LZ4] = "lz4",
		[KERNEL_COMPRESSION_XZ] = "xz",
		[KERNEL_COMPRESSION_GZIP] = "gzip",
	};

	return names[c];
}
