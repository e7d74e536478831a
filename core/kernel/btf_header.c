// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "kernel/btf_check.h"
#include "kernel/btf_parts.h"

static struct error *check_magic(const struct btf_header *h, size_t size)
{
	if (size < sizeof(*h))
		return error_create(ERROR_FORMAT, "BTF is cut short: %zu bytes, its header has %zu", size,
				    sizeof(*h));
	if (h->magic == __builtin_bswap16(BTF_MAGIC))
		return error_create(ERROR_UNSUPPORTED, "BTF of the other byte order");
	if (h->magic != BTF_MAGIC)
		return error_create(ERROR_FORMAT, "not BTF: it begins with 0x%04x instead of 0x%04x", h->magic,
				    BTF_MAGIC);
	if (h->version != BTF_VERSION || h->flags)
		return error_create(ERROR_UNSUPPORTED, "BTF version %u with flags 0x%x; known is %u without",
				    h->version, h->flags, BTF_VERSION);
	if (size > BTF_MAX_SIZE)
		return error_create(ERROR_UNSUPPORTED, "BTF of %zu bytes; at most %u are read", size, BTF_MAX_SIZE);
	return NULL;
}

static struct error *check_sections(const struct btf_header *h, size_t size)
{
	if (h->hdr_len < sizeof(*h) || h->hdr_len % 4 || h->hdr_len > size)
		return error_create(ERROR_FORMAT, "BTF header of %u bytes in a blob of %zu", h->hdr_len, size);

	u64 types_end = (u64)h->type_off + h->type_len;
	u64 end = (u64)h->hdr_len + h->str_off + h->str_len;

	if (h->type_off % 4 || h->type_len % 4)
		return error_create(ERROR_FORMAT, "BTF types are not aligned: %u bytes at %u", h->type_len,
				    h->type_off);
	if (types_end > h->str_off)
		return error_create(ERROR_FORMAT, "BTF types and strings overlap: types to %llu, strings from %u",
				    (unsigned long long)types_end, h->str_off);
	if (end > size)
		return error_create(ERROR_FORMAT, "BTF is cut short: %zu bytes of %llu", size, (unsigned long long)end);
	return NULL;
}

/* A split may have none; else they end with a NUL, and those of a base begin with the empty one. */
static struct error *check_string_ends(const struct btf_bytes *b)
{
	if (!b->strings_size && b->base)
		return NULL;
	if (!b->strings_size)
		return error_create(ERROR_FORMAT, "BTF without strings");
	if (b->strings[b->strings_size - 1])
		return error_create(ERROR_FORMAT, "BTF strings do not end with a NUL");
	if (!b->base && b->strings[0])
		return error_create(ERROR_FORMAT, "BTF strings do not begin with an empty one");
	return NULL;
}

static bool is_control(u8 c)
{
	return (c < ' ') | (c == 0x7f);
}

bool btf_is_name(const char *s)
{
	size_t n = 0;

	while (s[n] && !is_control(s[n]))
		if (++n > BTF_MAX_NAME)
			return false;
	return !s[n];
}

/*
 * Names are looked at where types use them, since the strings of a BPF program also hold lines of its source. But
 * when nothing in all of them is odd, as in a kernel, that is soon known: no control characters, and a NUL in each
 * stretch as long as the longest name.
 */
static bool any_odd(const char *s, size_t size)
{
	enum { BLOCK = 64 }; /* bytes at once: a number that the compiler knows lets it use vectors */
	size_t blocks = size - size % BLOCK;
	u8 odd = 0;

	for (size_t i = 0; i < blocks; i += BLOCK)
		for (size_t j = 0; j < BLOCK; j++)
			odd |= (s[i + j] != 0) & is_control(s[i + j]);
	for (size_t i = blocks; i < size; i++)
		odd |= (s[i] != 0) & is_control(s[i]);
	while (size > BTF_MAX_NAME + 1 && !odd) {
		const char *last = memrchr(s, 0, BTF_MAX_NAME + 1);

		odd = !last;
		if (last) {
			size -= last + 1 - s;
			s = last + 1;
		}
	}
	return odd;
}

struct error *btf_check_header(const void *data, size_t size, const struct btf_bytes *base, struct btf_bytes *ret)
{
	const struct btf_header *h = data;
	struct error *err = check_magic(h, size);

	if (!err)
		err = check_sections(h, size);
	if (err)
		return err;

	const u8 *sections = (const u8 *)data + h->hdr_len;

	*ret = (struct btf_bytes){
		.base = base,
		.data = data,
		.size = size,
		.types = sections + h->type_off,
		.types_size = h->type_len,
		.strings = (const char *)sections + h->str_off,
		.strings_size = h->str_len,
		.first_string = base ? base->first_string + base->strings_size : 0,
	};
	if ((u64)ret->first_string + ret->strings_size > UINT32_MAX)
		return error_create(ERROR_UNSUPPORTED, "BTF strings of a base and its splits exceed 4 GiB");
	err = check_string_ends(ret);
	ret->odd_strings = !err && (any_odd(ret->strings, ret->strings_size) || (base && base->odd_strings));
	return err;
}
