// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/ldcache.h"

#include <string.h>

#include "base/buf.h"

/* The format since glibc 2.2; a table in the older one may stand in front of it. */
static const char magic[] = "glibc-ld.so.cache1.1";
static const char old_magic[] = "ld.so-1.7.0";

enum {
	OLD_HEADER_SIZE = 16, /* the magic with its NUL, and the number of entries */
	OLD_ENTRY_SIZE = 12,
	HEADER_SIZE = 48,
	NEW_ALIGN = 8,
	FLAGS_X86_64 = 0x0303, /* for glibc 2, 64-bit x86 */
};

/* A string that ends before the cache does, or NULL. */
static const char *string_at(const u8 *data, size_t size, u32 offset)
{
	if (offset >= size || !memchr(data + offset, '\0', size - offset))
		return NULL;
	return (const char *)data + offset;
}

/* Where the table in the newer format starts. */
static size_t find_table(const u8 *data, size_t size)
{
	if (size < OLD_HEADER_SIZE || memcmp(data, old_magic, sizeof(old_magic)) != 0)
		return 0;

	struct reader r =
		reader_init(data + sizeof(old_magic), OLD_HEADER_SIZE - sizeof(old_magic));

	return ALIGN_UP(OLD_HEADER_SIZE + (size_t)reader_get_u32(&r) * OLD_ENTRY_SIZE,
			(size_t)NEW_ALIGN);
}

const char *ldcache_find(const u8 *data, size_t size, const char *library)
{
	size_t start = find_table(data, size);

	if (start > size || size - start < HEADER_SIZE ||
	    memcmp(data + start, magic, sizeof(magic) - 1) != 0)
		return NULL;
	data += start;
	size -= start;

	struct reader r = reader_init(data, size);

	reader_take(&r, sizeof(magic) - 1);

	u32 count = reader_get_u32(&r);

	r.pos = HEADER_SIZE;
	for (u32 i = 0; i < count && reader_left(&r); i++) {
		u32 flags = reader_get_u32(&r);
		u32 key = reader_get_u32(&r);
		u32 value = reader_get_u32(&r);

		reader_get_u32(&r); // lowest kernel version: not used any more

		u64 hwcap = reader_get_u64(&r);

		if (r.failed || flags != FLAGS_X86_64 || hwcap)
			continue;

		const char *name = string_at(data, size, key);

		if (name && !strcmp(name, library))
			return string_at(data, size, value);
	}
	return NULL;
}
