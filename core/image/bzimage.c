// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/bzimage.h"

#include <string.h>
#include <zlib.h>

#include "base/buf.h"
#include "image/decompress.h"

/* Offsets in the file: Documentation/arch/x86/boot.rst. */
enum {
	BZ_PE_OFFSET = 0x3c,
	BZ_SETUP_SECTS = 0x1f1,
	BZ_SYSSIZE = 0x1f4, /* in units of 16 bytes */
	BZ_BOOT_FLAG = 0x1fe,
	BZ_JUMP_DISPLACEMENT = 0x201, /* the header ends that far behind the next byte */
	BZ_HEADER_MAGIC = 0x202,
	BZ_VERSION = 0x206,
	BZ_KERNEL_VERSION = 0x20e, /* points to a string, less 0x200 */
	BZ_KERNEL_ALIGNMENT = 0x230,
	BZ_PAYLOAD_OFFSET = 0x248,
	BZ_PAYLOAD_LENGTH = 0x24c,
	BZ_HEADER_MIN = 0x250, /* the end of what protocol 2.08 has */

	SECTOR_SIZE = 512,
	DEFAULT_SETUP_SECTS = 4,
	PROTOCOL_MIN = 0x208,
	SIZE_BYTES = 4, /* the unpacked size, little-endian, behind the compressed data */
	CRC_BYTES = 4,
};

/* Offsets from the PE header; what signing an image changes beside appending to it. */
enum {
	PE_MACHINE = 4,
	PE_OPTIONAL_MAGIC = 24,
	PE_CHECKSUM = 24 + 64,
	PE_CERTIFICATES = 24 + 112 + 4 * 8, /* the fifth data directory */
	PE_END = PE_CERTIFICATES + 8,

	PE_MACHINE_X86_64 = 0x8664,
	PE_OPTIONAL_MAGIC_64 = 0x20b,
};

/* Reads at a fixed offset, which the caller knows to be inside. */
static u64 get(const u8 *data, size_t at, u32 width)
{
	struct reader r = reader_init(data + at, width);

	switch (width) {
	case 1:
		return reader_get_u8(&r);
	case 2:
		return reader_get_u16(&r);
	default:
		return reader_get_u32(&r);
	}
}

bool bzimage_detect(const u8 *data, size_t size)
{
	return size >= BZ_HEADER_MAGIC + 4 && get(data, BZ_BOOT_FLAG, 2) == 0xaa55 &&
	       !memcmp(data + BZ_HEADER_MAGIC, "HdrS", 4);
}

static struct error *cut_short(size_t size, u64 needed)
{
	return error_with_hint(error_create(ERROR_FORMAT, "it is cut short (%zu bytes of %llu)",
					    size, (unsigned long long)needed),
			       "fetch or build it again");
}

/* The PE header's offset when signing tools would find one, else 0. */
static size_t find_pe(const u8 *data, size_t size)
{
	size_t pe = get(data, BZ_PE_OFFSET, 4);

	if (memcmp(data, "MZ", 2) != 0 || pe > size || size - pe < PE_END ||
	    memcmp(data + pe, "PE\0\0", 4) != 0 ||
	    get(data, pe + PE_MACHINE, 2) != PE_MACHINE_X86_64 ||
	    get(data, pe + PE_OPTIONAL_MAGIC, 2) != PE_OPTIONAL_MAGIC_64)
		return 0;
	return pe;
}

/*
 * Kernels before 6.16 end in a CRC-32, not inverted at its end, so that the CRC of everything is 0;
 * later ones leave its four bytes 0. It was computed before the image was signed: the two fields of
 * the PE header that signing fills in count as zero.
 */
static bool crc_is_right(const u8 *data, size_t end, size_t pe)
{
	static const u8 zero[8];
	uLong crc = crc32(0, NULL, 0);
	size_t pos = 0;

	if (pe) {
		crc = crc32_z(crc, data, pe + PE_CHECKSUM);
		crc = crc32_z(crc, zero, 4);
		pos = pe + PE_CHECKSUM + 4;
		crc = crc32_z(crc, data + pos, pe + PE_CERTIFICATES - pos);
		crc = crc32_z(crc, zero, 8);
		pos = pe + PE_END;
	}
	crc = crc32_z(crc, data + pos, end - pos);
	return (u32)crc == 0xffffffff;
}

/* Microsoft's: the 16-bit words added with carry round, the field itself as zero, plus the size. */
static bool pe_checksum_is_right(const u8 *data, size_t size, size_t pe)
{
	const size_t field = pe + PE_CHECKSUM; // even, so two whole words
	u64 sum = 0;

	for (size_t i = 0; i + 1 < size; i += 2)
		sum += data[i] | data[i + 1] << 8;
	if (size & 1)
		sum += data[size - 1];
	sum -= get(data, field, 2) + get(data, field + 2, 2);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (u32)(sum + size) == get(data, field, 4);
}

/*
 * The checksums of the file as a whole. One that is right is enough: an image that was signed, or
 * whose signature was taken off again, may have the other one stale. A flipped bit spoils both.
 */
static struct error *check_file(const u8 *data, size_t size, size_t end, bool *verified)
{
	size_t pe = find_pe(data, end);
	bool has_crc = get(data, end - CRC_BYTES, 4) != 0;
	bool has_pe = pe && !(pe & 1) && get(data, pe + PE_CHECKSUM, 4) != 0;

	*verified = (has_crc && crc_is_right(data, end, pe)) ||
		    (has_pe && pe_checksum_is_right(data, size, pe));
	if (*verified || (!has_crc && !has_pe))
		return NULL;
	return error_with_hint(error_create(ERROR_FORMAT, "it is damaged: its checksum is wrong"),
			       "fetch or build it again");
}

/* "6.1.0-48-cloud-amd64 (debian-kernel@...) #1 SMP ...": up to the space. */
static void find_release(const u8 *data, size_t setup_end, char *release)
{
	size_t at = get(data, BZ_KERNEL_VERSION, 2);
	size_t n = 0;

	if (!at || at + SECTOR_SIZE >= setup_end)
		return;
	for (at += SECTOR_SIZE; at < setup_end && n < KERNEL_RELEASE_MAX - 1; at++) {
		if (data[at] <= ' ' || data[at] > '~')
			break;
		release[n++] = data[at];
	}
	release[n] = '\0';
}

/* Where the setup sectors end and the protected-mode part does; both inside the file. */
static struct error *find_parts(const u8 *data, size_t size, size_t *setup_end, size_t *end)
{
	if (size < BZ_HEADER_MIN)
		return cut_short(size, BZ_HEADER_MIN);

	u32 version = get(data, BZ_VERSION, 2);

	if (version < PROTOCOL_MIN)
		return error_create(ERROR_UNSUPPORTED,
				    "its boot protocol is %u.%02u, older than 2.08", version >> 8,
				    version & 0xff);

	u32 sects = get(data, BZ_SETUP_SECTS, 1);

	*setup_end = (size_t)SECTOR_SIZE * ((sects ? sects : DEFAULT_SETUP_SECTS) + 1);
	*end = *setup_end + get(data, BZ_SYSSIZE, 4) * 16;
	if (*end > size)
		return cut_short(size, *end);
	return NULL;
}

static struct error *find_payload(const u8 *data, size_t setup_end, size_t end, struct bzimage *b)
{
	u64 offset = get(data, BZ_PAYLOAD_OFFSET, 4), length = get(data, BZ_PAYLOAD_LENGTH, 4);

	if (!offset || length <= SIZE_BYTES || setup_end + offset + length > end)
		return error_create(ERROR_FORMAT, "its header places the payload outside the file");
	b->payload = data + setup_end + offset;
	b->payload_size = length;
	b->vmlinux_size = get(b->payload, length - SIZE_BYTES, 4);

	struct error *err = decompress_detect(b->payload, length, &b->compression);

	if (err)
		return err;
	// gzip itself ends in the unpacked size; behind the others the build appends it.
	if (b->compression != KERNEL_COMPRESSION_GZIP)
		b->payload_size -= SIZE_BYTES;
	return NULL;
}

struct error *bzimage_parse(const u8 *data, size_t size, struct bzimage *ret)
{
	struct bzimage b = { 0 };
	size_t setup_end = 0, end = 0;
	struct error *err;

	err = find_parts(data, size, &setup_end, &end);
	if (err)
		return err;
	err = find_payload(data, setup_end, end, &b);
	if (err)
		return err;

	b.verified = decompress_is_checked(b.compression, b.payload, b.payload_size);
	if (!b.verified) {
		err = check_file(data, size, end, &b.verified);
		if (err)
			return err;
	}

	u32 header_end = BZ_HEADER_MAGIC + get(data, BZ_JUMP_DISPLACEMENT, 1);

	if (header_end < BZ_HEADER_MIN || header_end - BZ_SETUP_SECTS > KERNEL_SETUP_HEADER_MAX)
		return error_create(ERROR_FORMAT, "its setup header ends at 0x%x", header_end);
	b.setup_header = data + BZ_SETUP_SECTS;
	b.setup_header_size = header_end - BZ_SETUP_SECTS;
	b.align = get(data, BZ_KERNEL_ALIGNMENT, 4);
	find_release(data, setup_end, b.release);
	*ret = b;
	return NULL;
}
