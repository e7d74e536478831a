// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/print.h"

#include "tiny/cpu.h"
#include "x86/layout.h"

void *memcpy(void *to, const void *from, size_t n)
{
	void *ret = to;

	__asm__ volatile("rep movsb"
			 : "+D"(to), "+S"(from), "+c"(n)
			 :
			 : "memory");
	return ret;
}

void *memmove(void *to, const void *from, size_t n)
{
	u8 *t = to;
	const u8 *f = from;

	if (t <= f || t >= f + n)
		return memcpy(to, from, n);
	while (n--)
		t[n] = f[n];
	return to;
}

void *memset(void *to, int c, size_t n)
{
	void *ret = to;

	__asm__ volatile("rep stosb"
			 : "+D"(to), "+c"(n)
			 : "a"(c)
			 : "memory");
	return ret;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

void *memchr(const void *s, int c, size_t n)
{
	for (const u8 *p = s; n; n--, p++)
		if (*p == (u8)c)
			return (void *)p;
	return NULL;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

static void text_put_byte(struct text *t, char c)
{
	if (t->size < t->capacity)
		t->data[t->size++] = c;
}

void text_put(struct text *t, const char *s)
{
	text_put_bytes(t, s, strlen(s));
}

void text_put_bytes(struct text *t, const char *s, size_t n)
{
	while (n--)
		text_put_byte(t, *s++);
}

void text_put_number(struct text *t, s64 v)
{
	u64 left = v < 0 ? -(u64)v : (u64)v;
	char digits[20];
	u32 n = 0;

	do {
		digits[n++] = (char)('0' + left % 10);
		left /= 10;
	} while (left);
	if (v < 0)
		text_put_byte(t, '-');
	while (n)
		text_put_byte(t, digits[--n]);
}

void text_put_hex(struct text *t, u64 v)
{
	int shift = 60;

	while (shift && !(v >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		text_put_byte(t, "0123456789abcdef"[v >> shift & 15]);
}

/* The transmitter is always ready in a virtual machine: asking it would double the exits. */
static void serial_write(u16 port, const char *s, size_t n)
{
	for (; n; n--, s++) {
		if (*s == '\n')
			out8(port, '\r');
		out8(port, (u8)*s);
	}
}

void console_write(const char *s, size_t n)
{
	serial_write(LAYOUT_COM1_PORT, s, n);
}

void console_print(const char *s)
{
	console_write(s, strlen(s));
}

void last_words_print(const char *s)
{
	serial_write(LAYOUT_COM2_PORT, s, strlen(s));
}
