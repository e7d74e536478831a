/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel images made by hand: a small vmlinux with relocation tables, a bzImage round it.
 * Depends on base, libzstd, liblz4, liblzma and zlib. Nothing of core/image takes part in it.
 * Every step that fails aborts: a test's own image is never in doubt.
 */
#ifndef TESTS_IMAGE_BUILDER_H
#define TESTS_IMAGE_BUILDER_H

#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "image/kernel.h"

#define BUILT_RELEASE "7.9.1-built"
#define BUILT_LINK_PHYS 0x1000000ULL
#define BUILT_LINK_VIRT 0xffffffff81000000ULL

/* What the vmlinux consists of: text with .rodata in it, per-CPU data linked at 0, data with BSS.
 */
enum {
	BUILT_TEXT_OFFSET = 0x1000,
	BUILT_RODATA_OFFSET = 0x3000,
	BUILT_TEXT_SIZE = 0x4000,
	BUILT_PERCPU_OFFSET = 0x5000,
	BUILT_PERCPU_SIZE = 0x800,
	BUILT_PERCPU_AT = 0x200000, /* in the image */
	BUILT_DATA_OFFSET = 0x6000,
	BUILT_DATA_SIZE = 0x82345, /* zero but for both ends: there is room for a hole */
	BUILT_DATA_BSS = 0x3000,
	BUILT_DATA_AT = 0x400000,
	BUILT_SPAN = BUILT_DATA_AT + BUILT_DATA_SIZE + BUILT_DATA_BSS,
	BUILT_ENTRY_AT = 0x40,
	BUILT_RELOCATIONS = 40, /* of each kind */
};

struct vmlinux_options {
	bool no_tables;
	bool no_inverse; /* two lists instead of three */
	u16 machine; /* 0: EM_X86_64 */
	u16 type; /* 0: ET_EXEC */
};

/* Offsets in the image of the relocations: in text, in text up to its last byte, in data. */
static inline u32 built_add32_at(u32 i)
{
	return 0x80 + i * 37;
}

static inline u32 built_sub32_at(u32 i)
{
	return BUILT_TEXT_SIZE - 4 - i * 29;
}

/* Some straddle pages, as unaligned words do. */
static inline u32 built_add64_at(u32 i)
{
	return BUILT_DATA_AT + 0xffc - i * 24;
}

static inline void built_put_at(struct buf *b, size_t at, const void *data, size_t n)
{
	if (at > b->size)
		buf_put_zero(b, at - b->size);
	if (b->failed || at > b->size || n > b->size - at)
		abort();
	memcpy(b->data + at, data, n);
}

static inline void built_put_u32_at(struct buf *b, size_t at, u32 v)
{
	built_put_at(b, at, &v, sizeof(v));
}

/* Bytes that repeat now and then, so that compression has something to do. */
static inline void built_fill(struct buf *b, size_t at, size_t n, u32 seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245 + 12345;
		b->data[at + i] = seed >> 30 ? i / 16 : seed >> 20;
	}
}

static inline void built_put_tables(struct buf *b, const struct vmlinux_options *o)
{
	const u32 base = (u32)BUILT_LINK_VIRT;

	buf_put_u32(b, 0);
	for (u32 i = BUILT_RELOCATIONS; i-- > 0;)
		buf_put_u32(b, base + built_add64_at(i));
	if (!o->no_inverse) {
		buf_put_u32(b, 0);
		for (u32 i = BUILT_RELOCATIONS; i-- > 0;)
			buf_put_u32(b, base + built_sub32_at(i));
	}
	buf_put_u32(b, 0);
	for (u32 i = 0; i < BUILT_RELOCATIONS; i++)
		buf_put_u32(b, base + built_add32_at(i));
}

static inline void built_put_sections(struct buf *b, Elf64_Ehdr *e)
{
	static const char names[] = "\0.text\0.rodata\0.shstrtab";
	Elf64_Shdr sh[4] = {
		{ 0 },
		{ .sh_name = 1, .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR },
		{ .sh_name = 7, .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC },
		{ .sh_name = 15, .sh_type = SHT_STRTAB, .sh_size = sizeof(names) },
	};

	sh[1].sh_offset = BUILT_TEXT_OFFSET;
	sh[1].sh_size = BUILT_RODATA_OFFSET - BUILT_TEXT_OFFSET;
	sh[2].sh_offset = BUILT_RODATA_OFFSET;
	sh[2].sh_size = BUILT_TEXT_OFFSET + BUILT_TEXT_SIZE - BUILT_RODATA_OFFSET;
	sh[3].sh_offset = b->size;
	buf_put(b, names, sizeof(names));
	buf_align(b, 8);
	e->e_shoff = b->size;
	e->e_shnum = ARRAY_SIZE(sh);
	e->e_shstrndx = 3;
	buf_put(b, sh, sizeof(sh));
}

static inline void build_vmlinux(struct buf *b, const struct vmlinux_options *o)
{
	const char banner[] = "Linux version %s\0Linux version " BUILT_RELEASE " (me@here) #1\n";
	Elf64_Phdr ph[3] = {
		{ .p_type = PT_LOAD, .p_offset = BUILT_TEXT_OFFSET, .p_vaddr = BUILT_LINK_VIRT },
		{ .p_type = PT_LOAD, .p_offset = BUILT_PERCPU_OFFSET },
		{ .p_type = PT_LOAD, .p_offset = BUILT_DATA_OFFSET },
	};
	Elf64_Ehdr e = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = o->type ? o->type : ET_EXEC,
		.e_machine = o->machine ? o->machine : EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = BUILT_LINK_PHYS + BUILT_ENTRY_AT,
		.e_phoff = sizeof(e),
		.e_ehsize = sizeof(e),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = ARRAY_SIZE(ph),
		.e_shentsize = sizeof(Elf64_Shdr),
	};

	ph[0].p_filesz = ph[0].p_memsz = BUILT_TEXT_SIZE;
	ph[0].p_paddr = BUILT_LINK_PHYS;
	ph[1].p_filesz = ph[1].p_memsz = BUILT_PERCPU_SIZE;
	ph[1].p_paddr = BUILT_LINK_PHYS + BUILT_PERCPU_AT;
	ph[2].p_filesz = BUILT_DATA_SIZE;
	ph[2].p_memsz = BUILT_DATA_SIZE + BUILT_DATA_BSS;
	ph[2].p_paddr = BUILT_LINK_PHYS + BUILT_DATA_AT;
	ph[2].p_vaddr = BUILT_LINK_VIRT + BUILT_DATA_AT;

	buf_put_zero(b, BUILT_DATA_OFFSET + BUILT_DATA_SIZE);
	if (b->failed)
		abort();
	built_fill(b, BUILT_TEXT_OFFSET, BUILT_TEXT_SIZE, 1);
	built_put_at(b, BUILT_RODATA_OFFSET + 100, banner, sizeof(banner));
	built_fill(b, BUILT_PERCPU_OFFSET, BUILT_PERCPU_SIZE, 2);
	built_fill(b, BUILT_DATA_OFFSET, 0x1800, 3);
	built_fill(b, BUILT_DATA_OFFSET + BUILT_DATA_SIZE - 0x100, 0x100, 4);
	built_put_sections(b, &e);
	built_put_at(b, 0, &e, sizeof(e));
	built_put_at(b, sizeof(e), ph, sizeof(ph));
	if (!o->no_tables)
		built_put_tables(b, o);
	if (b->failed)
		abort();
}

/* What a loader that does as it is told makes of the image: BUILT_SPAN bytes. */
static inline void built_expect(const struct buf *vmlinux, u64 slide, bool no_inverse, u8 *image)
{
	memset(image, 0, BUILT_SPAN);
	memcpy(image, vmlinux->data + BUILT_TEXT_OFFSET, BUILT_TEXT_SIZE);
	memcpy(image + BUILT_PERCPU_AT, vmlinux->data + BUILT_PERCPU_OFFSET, BUILT_PERCPU_SIZE);
	memcpy(image + BUILT_DATA_AT, vmlinux->data + BUILT_DATA_OFFSET, BUILT_DATA_SIZE);
	for (u32 i = 0; i < BUILT_RELOCATIONS; i++) {
		u32 word;
		u64 word64;

		memcpy(&word, image + built_add32_at(i), 4);
		word += slide;
		memcpy(image + built_add32_at(i), &word, 4);
		if (!no_inverse) {
			memcpy(&word, image + built_sub32_at(i), 4);
			word -= slide;
			memcpy(image + built_sub32_at(i), &word, 4);
		}
		memcpy(&word64, image + built_add64_at(i), 8);
		word64 += slide;
		memcpy(image + built_add64_at(i), &word64, 8);
	}
}

/* Compressed as `lz4 -l` does: a magic, then blocks of at most 8 MiB behind their sizes. */
static inline void built_put_lz4(struct buf *b, const struct buf *in)
{
	const size_t block = 256 << 10; // smaller ones are as good
	char *out = malloc(LZ4_compressBound(block));

	buf_put_u32(b, 0x184c2102);
	for (size_t at = 0; at < in->size; at += block) {
		size_t n = in->size - at < block ? in->size - at : block;
		int packed = LZ4_compress_default((const char *)in->data + at, out, n,
						  LZ4_compressBound(block));

		buf_put_u32(b, packed);
		buf_put(b, out, packed);
	}
	free(out);
}

static inline void built_put_zstd(struct buf *b, const struct buf *in)
{
	size_t room = ZSTD_compressBound(in->size);
	char *out = malloc(room);
	ZSTD_CCtx *c = ZSTD_createCCtx();

	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);

	size_t n = ZSTD_compress2(c, out, room, in->data, in->size);

	ZSTD_freeCCtx(c);
	if (ZSTD_isError(n))
		abort();
	buf_put(b, out, n);
	free(out);
}

static inline void built_put_xz(struct buf *b, const struct buf *in)
{
	size_t room = lzma_stream_buffer_bound(in->size), n = 0;
	uint8_t *out = malloc(room);

	if (lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, in->data, in->size, out, &n, room) !=
	    LZMA_OK)
		abort();
	buf_put(b, out, n);
	free(out);
}

static inline void built_put_gzip(struct buf *b, const struct buf *in)
{
	z_stream z = { 0 };

	if (deflateInit2(&z, 9, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();

	size_t room = deflateBound(&z, in->size);
	u8 *out = malloc(room);

	z.next_in = in->data;
	z.avail_in = in->size;
	z.next_out = out;
	z.avail_out = room;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		abort();
	buf_put(b, out, z.total_out);
	deflateEnd(&z);
	free(out);
}

enum {
	BUILT_SETUP_SECTS = 4,
	BUILT_SETUP_END = (BUILT_SETUP_SECTS + 1) * 512,
	BUILT_PAYLOAD_OFFSET = 0x100,
	BUILT_PAYLOAD_AT = BUILT_SETUP_END + BUILT_PAYLOAD_OFFSET,
	BUILT_PE_AT = 0x40,
	BUILT_SIGNATURE_SIZE = 0x5c8,
};

struct bzimage_options {
	enum kernel_compression compression;
	bool crc; /* a CRC-32 at its end, as before 6.16 */
	bool is_signed; /* as sbsign does it */
	const struct buf *payload; /* put in as it is, instead of a compressed vmlinux */
};

/* The setup header: Documentation/arch/x86/boot.rst. */
static inline void built_put_header(struct buf *b, u32 payload_length)
{
	const char release[] = BUILT_RELEASE " (me@here) #1 SMP";

	b->data[0x1f1] = BUILT_SETUP_SECTS;
	built_put_at(b, 0x1fe, "\x55\xaa\xeb\x6a", 4);
	built_put_at(b, 0x202, "HdrS\x0f\x02", 6);
	built_put_at(b, 0x20e, "\x00\x02", 2);
	built_put_at(b, 0x400, release, sizeof(release));
	built_put_u32_at(b, 0x230, 0x200000);
	b->data[0x234] = 1;
	built_put_u32_at(b, 0x248, BUILT_PAYLOAD_OFFSET);
	built_put_u32_at(b, 0x24c, payload_length);
	built_put_at(b, 0, "MZ", 2);
	built_put_u32_at(b, 0x3c, BUILT_PE_AT);
	built_put_at(b, BUILT_PE_AT, "PE\0\0\x64\x86", 6);
	built_put_at(b, BUILT_PE_AT + 24, "\x0b\x02", 2);
}

static inline void built_sign(struct buf *b)
{
	u32 sum = 0;

	built_put_u32_at(b, BUILT_PE_AT + 24 + 112 + 32, b->size);
	built_put_u32_at(b, BUILT_PE_AT + 24 + 112 + 36, BUILT_SIGNATURE_SIZE);
	buf_put_zero(b, BUILT_SIGNATURE_SIZE);
	built_fill(b, b->size - BUILT_SIGNATURE_SIZE, BUILT_SIGNATURE_SIZE, 5);
	for (size_t i = 0; i + 1 < b->size; i += 2) {
		sum += b->data[i] | b->data[i + 1] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	built_put_u32_at(b, BUILT_PE_AT + 24 + 64, sum + b->size);
}

static inline void build_bzimage(struct buf *b, const struct buf *vmlinux,
				 const struct bzimage_options *o)
{
	buf_put_zero(b, BUILT_PAYLOAD_AT);
	if (b->failed)
		abort();
	built_fill(b, BUILT_SETUP_END, BUILT_PAYLOAD_OFFSET, 6);
	if (o->payload)
		buf_put(b, o->payload->data, o->payload->size);
	else if (o->compression == KERNEL_COMPRESSION_ZSTD)
		built_put_zstd(b, vmlinux);
	else if (o->compression == KERNEL_COMPRESSION_LZ4)
		built_put_lz4(b, vmlinux);
	else if (o->compression == KERNEL_COMPRESSION_XZ)
		built_put_xz(b, vmlinux);
	else
		built_put_gzip(b, vmlinux);
	if (!o->payload && o->compression != KERNEL_COMPRESSION_GZIP)
		buf_put_u32(b, vmlinux->size);
	built_put_header(b, b->size - BUILT_PAYLOAD_AT);
	buf_put_zero(b, 4);
	buf_align(b, 16);
	if (b->failed)
		abort();
	built_put_u32_at(b, 0x1f4, (b->size - BUILT_SETUP_END + 15) / 16);
	buf_put_zero(b, (0 - (b->size - BUILT_SETUP_END)) & 15);
	if (o->crc)
		built_put_u32_at(b, b->size - 4, ~(u32)crc32(0, b->data, b->size - 4));
	if (o->is_signed)
		built_sign(b);
	if (b->failed)
		abort();
}

#endif
