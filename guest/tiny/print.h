/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text: on COM1 (the console), on COM2 (last words), and into a bounded buffer.
 * Depends on base/types.h.
 * Also the few functions of string.h that the guest, codec.c and the compiler itself call.
 */
#ifndef TINY_PRINT_H
#define TINY_PRINT_H

#include "base/types.h"

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);

/* What does not fit is dropped. */
struct text {
	char *data;
	size_t size, capacity;
};

void text_put(struct text *t, const char *s);
void text_put_bytes(struct text *t, const char *s, size_t n);
void text_put_number(struct text *t, s64 v);
void text_put_hex(struct text *t, u64 v);

void console_write(const char *s, size_t n); /* COM1 */
void console_print(const char *s);
void last_words_print(const char *s); /* COM2 */

#endif
