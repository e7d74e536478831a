// SPDX-License-Identifier: GPL-2.0-or-later
#include "x86/aml.h"

#include <stdlib.h>
#include <string.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_EXTENDED = 0x5b,
	OP_EXTENDED_DEVICE = 0x82,
	OP_ARG0 = 0x68,
	OP_OR = 0x7d,
	OP_CREATE_DWORD_FIELD = 0x8a,
	OP_NOT = 0x92,
	OP_EQUAL = 0x93,
	OP_IF = 0xa0,
	OP_ELSE = 0xa1,
	OP_RETURN = 0xa4,

	METHOD_SERIALIZED = 1 << 3,
};

struct aml aml_init(struct buf *out)
{
	return (struct aml){ .out = out };
}

static void open_body(struct aml *a, bool resources)
{
	// The depth is the caller's program text, not its data.
	if (a->depth == AML_DEPTH_MAX)
		abort();
	a->open[a->depth].start = a->out->size;
	a->open[a->depth++].resources = resources;
}

static void put_segment(struct buf *b, const char *name)
{
	char segment[4] = { '_', '_', '_', '_' };

	for (u32 i = 0; i < sizeof(segment) && name[i]; i++)
		segment[i] = name[i];
	buf_put(b, segment, sizeof(segment));
}

/* Makes room for n bytes at an earlier place and puts them there. */
static void insert(struct buf *b, size_t at, const void *data, size_t n)
{
	size_t moved = b->size - at;

	buf_put_zero(b, n);
	if (b->failed)
		return;
	memmove(b->data + at + n, b->data + at, moved);
	memcpy(b->data + at, data, n);
}

/* A length counts its own bytes: one for up to 63, else two to four with the low four bits in the first. */
static void insert_length(struct buf *b, size_t at)
{
	size_t body = b->size - at;
	u8 bytes[4];
	u32 n = 1;

	if (body + 1 > 0x3f)
		for (n = 2; body + n >= 1ULL << (4 + 8 * (n - 1)); n++)
			;

	size_t length = body + n;

	bytes[0] = n == 1 ? (u8)length : (u8)((n - 1) << 6 | (length & 0xf));
	for (u32 i = 1; i < n; i++)
		bytes[i] = (u8)(length >> (4 + 8 * (i - 1)));
	insert(b, at, bytes, n);
}

void aml_close(struct aml *a)
{
	struct buf *b = a->out;
	size_t start = a->open[--a->depth].start;

	if (b->failed)
		return;
	if (a->open[a->depth].resources) {
		buf_put_u8(b, 0x79); // end tag; checksum 0: none
		buf_put_u8(b, 0);

		size_t size = b->size - start;
		u8 word[3] = { OP_WORD, (u8)size, (u8)(size >> 8) };

		insert(b, start, word, sizeof(word));
	}
	insert_length(b, start);
}

void aml_scope(struct aml *a, const char *name)
{
	buf_put_u8(a->out, OP_SCOPE);
	open_body(a, false);
	put_segment(a->out, name);
}

void aml_device(struct aml *a, const char *name)
{
	buf_put_u8(a->out, OP_EXTENDED);
	buf_put_u8(a->out, OP_EXTENDED_DEVICE);
	open_body(a, false);
	put_segment(a->out, name);
}

void aml_method(struct aml *a, const char *name, u32 args)
{
	buf_put_u8(a->out, OP_METHOD);
	open_body(a, false);
	put_segment(a->out, name);
	buf_put_u8(a->out, (u8)(args | METHOD_SERIALIZED));
}

void aml_package(struct aml *a, u32 elements)
{
	buf_put_u8(a->out, OP_PACKAGE);
	open_body(a, false);
	buf_put_u8(a->out, (u8)elements);
}

void aml_resources(struct aml *a)
{
	buf_put_u8(a->out, OP_BUFFER);
	open_body(a, true);
}

void aml_if(struct aml *a)
{
	buf_put_u8(a->out, OP_IF);
	open_body(a, false);
}

void aml_else(struct aml *a)
{
	buf_put_u8(a->out, OP_ELSE);
	open_body(a, false);
}

void aml_name(struct aml *a, const char *name)
{
	buf_put_u8(a->out, OP_NAME);
	put_segment(a->out, name);
}

void aml_integer(struct aml *a, u64 value)
{
	struct buf *b = a->out;

	if (value <= 1) {
		buf_put_u8(b, value ? OP_ONE : OP_ZERO);
	} else if (value <= UINT8_MAX) {
		buf_put_u8(b, OP_BYTE);
		buf_put_u8(b, (u8)value);
	} else if (value <= UINT16_MAX) {
		buf_put_u8(b, OP_WORD);
		buf_put_u16(b, (u16)value);
	} else if (value <= UINT32_MAX) {
		buf_put_u8(b, OP_DWORD);
		buf_put_u32(b, (u32)value);
	} else {
		buf_put_u8(b, OP_QWORD);
		buf_put_u64(b, value);
	}
}

static u32 hex_digit(char c)
{
	return c <= '9' ? (u32)(c - '0') : (u32)(c - 'A' + 10);
}

/* Three letters of five bits, four hex digits; the whole with its bytes swapped. */
void aml_eisa_id(struct aml *a, const char *id)
{
	u32 v = 0;

	for (u32 i = 0; i < 3; i++)
		v = v << 5 | ((u32)(id[i] - '@') & 0x1f);
	for (u32 i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	buf_put_u8(a->out, OP_DWORD);
	buf_put_u32(a->out, __builtin_bswap32(v));
}

void aml_bytes(struct aml *a, const void *data, u8 size)
{
	buf_put_u8(a->out, OP_BUFFER);
	open_body(a, false);
	buf_put_u8(a->out, OP_BYTE);
	buf_put_u8(a->out, size);
	buf_put(a->out, data, size);
	aml_close(a);
}

void aml_arg(struct aml *a, u32 n)
{
	buf_put_u8(a->out, (u8)(OP_ARG0 + n));
}

void aml_reference(struct aml *a, const char *name)
{
	put_segment(a->out, name);
}

void aml_equal(struct aml *a)
{
	buf_put_u8(a->out, OP_EQUAL);
}

void aml_not_equal(struct aml *a)
{
	buf_put_u8(a->out, OP_NOT);
	buf_put_u8(a->out, OP_EQUAL);
}

void aml_or(struct aml *a)
{
	buf_put_u8(a->out, OP_OR);
}

void aml_return(struct aml *a)
{
	buf_put_u8(a->out, OP_RETURN);
}

void aml_create_dword_field(struct aml *a, u32 arg, u32 offset, const char *name)
{
	buf_put_u8(a->out, OP_CREATE_DWORD_FIELD);
	aml_arg(a, arg);
	aml_integer(a, offset);
	put_segment(a->out, name);
}

void aml_io(struct aml *a, u16 port, u8 ports)
{
	buf_put_u8(a->out, 0x47);
	buf_put_u8(a->out, 1); // decodes 16 bits
	buf_put_u16(a->out, port);
	buf_put_u16(a->out, port);
	buf_put_u8(a->out, 1); // alignment
	buf_put_u8(a->out, ports);
}

void aml_irq_edge(struct aml *a, u32 irq)
{
	buf_put_u8(a->out, 0x23);
	buf_put_u16(a->out, (u16)(1 << irq));
	buf_put_u8(a->out, 1); // edge
}

void aml_memory32(struct aml *a, u32 start, u32 size)
{
	buf_put_u8(a->out, 0x86);
	buf_put_u16(a->out, 9);
	buf_put_u8(a->out, 1); // read and write
	buf_put_u32(a->out, start);
	buf_put_u32(a->out, size);
}

enum {
	WINDOW_MEMORY,
	WINDOW_IO,
	WINDOW_BUS,
};

/* Both ends fixed, decoded positively, produced for what is below. */
static void put_window_head(struct buf *b, u8 tag, u16 length, u8 type, u8 flags)
{
	buf_put_u8(b, tag);
	buf_put_u16(b, length);
	buf_put_u8(b, type);
	buf_put_u8(b, 0x0c);
	buf_put_u8(b, flags);
}

static void put_window_word(struct aml *a, u8 type, u8 flags, u16 first, u16 last)
{
	put_window_head(a->out, 0x88, 13, type, flags);
	buf_put_u16(a->out, 0); // granularity
	buf_put_u16(a->out, first);
	buf_put_u16(a->out, last);
	buf_put_u16(a->out, 0); // translation
	buf_put_u16(a->out, (u16)(last - first + 1));
}

void aml_bus_window(struct aml *a, u16 first, u16 last)
{
	put_window_word(a, WINDOW_BUS, 0, first, last);
}

void aml_io_window(struct aml *a, u16 first, u16 last)
{
	put_window_word(a, WINDOW_IO, 3, first, last); // the whole range
}

void aml_memory_window(struct aml *a, u64 start, u64 size)
{
	struct buf *b = a->out;

	put_window_head(b, 0x8a, 43, WINDOW_MEMORY, 1); // not cached, read and write
	buf_put_u64(b, 0);
	buf_put_u64(b, start);
	buf_put_u64(b, start + size - 1);
	buf_put_u64(b, 0);
	buf_put_u64(b, size);
}
