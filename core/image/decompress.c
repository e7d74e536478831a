// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/decompress.h"

#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"

enum {
	ZSTD_MAGIC_SIZE = 4,
	ZSTD_DESCRIPTOR_CHECKSUM = 1 << 2, /* in the byte behind the magic */
	LZ4_MAGIC_SIZE = 4,
	LZ4_BLOCK_MAX = 8 << 20, /* what one block of the legacy format unpacks to, at most */
	XZ_MAGIC_SIZE = 6,
	GZIP_MAGIC_SIZE = 2,
	GZIP_WINDOW_BITS = 16 + 15, /* zlib: a gzip header, the largest window */
};

/* Kernels use dictionaries of 32 MiB at most. */
#define XZ_MEMORY_LIMIT (256ULL << 20)

struct magic {
	const char *bytes;
	size_t size;
	const char *name;
	int compression; /* -1: known, not supported */
};

static const struct magic magics[] = {
	{ "\x28\xb5\x2f\xfd", ZSTD_MAGIC_SIZE, "zstd", KERNEL_COMPRESSION_ZSTD },
	{ "\x02\x21\x4c\x18", LZ4_MAGIC_SIZE, "lz4", KERNEL_COMPRESSION_LZ4 },
	{ "\xfd"
	  "7zXZ\0",
	  XZ_MAGIC_SIZE, "xz", KERNEL_COMPRESSION_XZ },
	{ "\x1f\x8b", GZIP_MAGIC_SIZE, "gzip", KERNEL_COMPRESSION_GZIP },
	{ "BZh", 3, "bzip2", -1 },
	{ "\x5d\0\0", 3, "lzma", -1 },
	{ "\x89LZO", 4, "lzo", -1 },
};

struct error *decompress_detect(const u8 *data, size_t size, enum kernel_compression *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		const struct magic *m = &magics[i];

		if (size < m->size || memcmp(data, m->bytes, m->size) != 0)
			continue;
		if (m->compression < 0)
			return error_with_hint(
				error_create(ERROR_UNSUPPORTED, "its payload is compressed with %s",
					     m->name),
				"build it with zstd, LZ4, xz or gzip, or give its vmlinux");
		*ret = m->compression;
		return NULL;
	}
	return error_create(ERROR_FORMAT, "its payload has no known compression format");
}

/* The stream flags' second byte, behind the magic, holds the kind of check. */
static bool xz_is_checked(const u8 *data, size_t size)
{
	return size > XZ_MAGIC_SIZE + 1 && (data[XZ_MAGIC_SIZE + 1] & 0xf) != LZMA_CHECK_NONE;
}

static bool zstd_is_checked(const u8 *data, size_t size)
{
	// Bytes that belong to a second frame are not covered by the first one's checksum.
	return size > ZSTD_MAGIC_SIZE && (data[ZSTD_MAGIC_SIZE] & ZSTD_DESCRIPTOR_CHECKSUM) &&
	       ZSTD_findFrameCompressedSize(data, size) == size;
}

bool decompress_is_checked(enum kernel_compression compression, const u8 *data, size_t size)
{
	switch (compression) {
	case KERNEL_COMPRESSION_ZSTD:
		return zstd_is_checked(data, size);
	case KERNEL_COMPRESSION_XZ:
		return xz_is_checked(data, size);
	case KERNEL_COMPRESSION_GZIP:
		return true;
	case KERNEL_COMPRESSION_LZ4:
	case KERNEL_COMPRESSION_NONE:
		break;
	}
	return false;
}

static struct error *damaged(const char *format, const char *why)
{
	return error_with_hint(
		error_create(ERROR_FORMAT, "its %s payload is damaged (%s)", format, why),
		"fetch or build it again");
}

static struct error *wrong_size(const char *format, size_t found, size_t expected)
{
	return error_with_hint(error_create(ERROR_FORMAT,
					    "its %s payload unpacks to %zu bytes where it says %zu",
					    format, found, expected),
			       "fetch or build it again");
}

static struct error *unzstd(const u8 *data, size_t size, u8 *out, size_t out_size)
{
	size_t n = ZSTD_decompress(out, out_size, data, size);

	if (ZSTD_isError(n))
		return damaged("zstd", ZSTD_getErrorName(n));
	return n == out_size ? NULL : wrong_size("zstd", n, out_size);
}

/* The legacy format: a magic, then blocks, each behind its compressed size. It has no checksum. */
static struct error *unlz4(const u8 *data, size_t size, u8 *out, size_t out_size)
{
	struct reader r = reader_init(data, size);
	size_t done = 0;

	reader_take(&r, LZ4_MAGIC_SIZE);
	while (reader_left(&r)) {
		u32 packed = reader_get_u32(&r);
		const void *block = reader_take(&r, packed);

		if (!block || packed > INT_MAX)
			return damaged("lz4", "a block is cut short");

		size_t room = out_size - done;
		int n = LZ4_decompress_safe(block, (char *)out + done, packed,
					    room < LZ4_BLOCK_MAX ? room : LZ4_BLOCK_MAX);

		if (n <= 0)
			return damaged("lz4", "a block does not unpack");
		done += n;
	}
	return done == out_size ? NULL : wrong_size("lz4", done, out_size);
}

static struct error *unxz(const u8 *data, size_t size, u8 *out, size_t out_size)
{
	uint64_t limit = XZ_MEMORY_LIMIT;
	size_t in_pos = 0, out_pos = 0;

	lzma_ret status = lzma_stream_buffer_decode(&limit, 0, NULL, data, &in_pos, size, out,
						    &out_pos, out_size);

	switch (status) {
	case LZMA_OK:
		break;
	case LZMA_MEM_ERROR:
		return error_no_memory();
	case LZMA_MEMLIMIT_ERROR:
		return damaged("xz", "its dictionary is larger than any kernel's");
	case LZMA_BUF_ERROR:
		return damaged("xz", "its size is not the one it says");
	default:
		return damaged("xz", "its contents or checksum");
	}
	if (in_pos != size)
		return damaged("xz", "bytes behind its end");
	return out_pos == out_size ? NULL : wrong_size("xz", out_pos, out_size);
}

static struct error *ungzip(const u8 *data, size_t size, u8 *out, size_t out_size)
{
	z_stream z = {
		.next_in = (u8 *)data, .avail_in = size, .next_out = out, .avail_out = out_size
	};

	if (inflateInit2(&z, GZIP_WINDOW_BITS) != Z_OK)
		return error_no_memory();

	int status = inflate(&z, Z_FINISH);
	size_t done = z.total_out, left = z.avail_in;

	inflateEnd(&z);
	if (status == Z_MEM_ERROR)
		return error_no_memory();
	if (status != Z_STREAM_END)
		return damaged("gzip", status == Z_BUF_ERROR ? "its size is not the one it says" :
							       "its contents or checksum");
	if (left)
		return damaged("gzip", "bytes behind its end");
	return done == out_size ? NULL : wrong_size("gzip", done, out_size);
}

struct error *decompress(enum kernel_compression compression, const u8 *data, size_t size, u8 *out,
			 size_t out_size)
{
	switch (compression) {
	case KERNEL_COMPRESSION_ZSTD:
		return unzstd(data, size, out, out_size);
	case KERNEL_COMPRESSION_LZ4:
		return unlz4(data, size, out, out_size);
	case KERNEL_COMPRESSION_XZ:
		return unxz(data, size, out, out_size);
	case KERNEL_COMPRESSION_GZIP:
		return ungzip(data, size, out, out_size);
	case KERNEL_COMPRESSION_NONE:
		break;
	}
	return error_create(ERROR_INVALID, "nothing to decompress");
}
