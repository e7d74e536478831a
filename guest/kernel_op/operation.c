// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel_op/operation.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a place's text consists of; its pieces have no end of their own. */
struct piece {
	const char *text;
	size_t size;
};

struct place {
	struct piece base, cpu, structure, field, type;
};

struct words {
	char *wrong;
	size_t size;
};

static int fail(const struct words *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fail(const struct words *to, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(to->wrong, to->size, fmt, args);
	va_end(args);
	return -1;
}

/* Takes what there is up to one of these characters. */
static struct piece take_until(const char **at, const char *ends)
{
	struct piece p = { *at, strcspn(*at, ends) };

	*at += p.size;
	return p;
}

/* False when something is left over, or empty. */
static bool split(const char *text, struct place *ret)
{
	const char *at = text;

	*ret = (struct place){ 0 };
	if (!strncmp(at, "task:", 5))
		at += 5;
	ret->base = take_until(&at, "@{.[:");
	if (at > text)
		ret->base = (struct piece){ text, (size_t)(at - text) };
	if (*at == '@' && at++)
		ret->cpu = take_until(&at, "{.[:");
	if (*at == '{' && at++) {
		ret->structure = take_until(&at, "}");
		if (*at++ != '}')
			return false;
	}
	if (*at == '[' || (*at == '.' && at++))
		ret->field = take_until(&at, ":");
	if (*at == ':' && at++)
		ret->type = take_until(&at, "");
	return ret->base.size && !*at;
}

/* All of a piece as a number: decimal, also one that begins with 0, or hexadecimal behind 0x. */
static bool parse_number(struct piece p, u64 *ret)
{
	char text[32], *end;

	if (!p.size || p.size >= sizeof(text))
		return false;
	memcpy(text, p.text, p.size);
	text[p.size] = 0;
	errno = 0;

	const char *digits = text + (*text == '-');
	int base = digits[0] == '0' && tolower((unsigned char)digits[1]) == 'x' ? 16 : 10;

	*ret = *text == '-' ? (u64)strtoll(text, &end, base) : strtoull(text, &end, base);
	return !*end && !errno && isdigit((unsigned char)*digits);
}

static bool begins_with(struct piece p, const char *word)
{
	return p.size >= strlen(word) && !memcmp(p.text, word, strlen(word));
}

static int put_base(struct attr_writer *w, const struct place *place, const struct words *wrong)
{
	const struct piece *base = &place->base;
	u64 number;

	if (begins_with(*base, "task:")) {
		if (!parse_number((struct piece){ base->text + 5, base->size - 5 }, &number) || number > INT32_MAX)
			return fail(wrong, "'%.*s' is no task: task:1", (int)base->size, base->text);
		attr_put_u32(w, ATTR_TASK, (u32)number);
	} else if (begins_with(*base, "0x")) {
		if (!parse_number(*base, &number))
			return fail(wrong, "'%.*s' is no address", (int)base->size, base->text);
		attr_put_u64(w, ATTR_ADDRESS, number);
	} else {
		attr_put_bytes(w, ATTR_SYMBOL, base->text, base->size);
	}
	if (!place->cpu.text)
		return 0;
	if (!parse_number(place->cpu, &number) || number > INT32_MAX)
		return fail(wrong, "'%.*s' is no CPU", (int)place->cpu.size, place->cpu.text);
	attr_put_u32(w, ATTR_CPU, (u32)number);
	return 0;
}

static void put_piece(struct attr_writer *w, u32 type, struct piece p)
{
	if (p.text)
		attr_put_bytes(w, type, p.text, p.size);
}

/* "bytes16": a type and a length. */
static int put_type(struct attr_writer *w, struct piece type, bool reads, const struct words *wrong)
{
	u64 length;

	if (!begins_with(type, "bytes") || type.size == 5) {
		put_piece(w, ATTR_TYPE, type);
		return 0;
	}
	if (!parse_number((struct piece){ type.text + 5, type.size - 5 }, &length) || !length ||
	    length > KERNEL_OP_BYTES_MAX)
		return fail(wrong, "'%.*s': the number of bytes is 1 to %d", (int)type.size, type.text,
			    KERNEL_OP_BYTES_MAX);
	attr_put_string(w, ATTR_TYPE, "bytes");
	if (reads)
		attr_put_u64(w, ATTR_LENGTH, length);
	return 0;
}

static int digit_of(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

static int put_bytes(struct attr_writer *w, const char *digits, const struct words *wrong)
{
	static u8 data[KERNEL_OP_BYTES_MAX];
	size_t n = strlen(digits);

	if (!n || n % 2 || n / 2 > sizeof(data) || strspn(digits, "0123456789abcdefABCDEF") != n)
		return fail(wrong, "'%.40s' are not the hexadecimal digits of bytes", digits);
	for (size_t i = 0; i < n / 2; i++)
		data[i] = (u8)(digit_of(digits[2 * i]) << 4 | digit_of(digits[2 * i + 1]));
	attr_put_data(w, ATTR_DATA, data, n / 2);
	return 0;
}

static int put_value(struct attr_writer *w, struct piece type, const char *text, const struct words *wrong)
{
	u64 number;

	if (begins_with(type, "bytes"))
		return put_bytes(w, text, wrong);
	if (!parse_number((struct piece){ text, strlen(text) }, &number))
		return fail(wrong, "'%.40s' is no number", text);
	attr_put_u64(w, ATTR_VALUE, number);
	return 0;
}

static int put_place(struct attr_writer *w, const char *text, bool reads, struct place *place,
		     const struct words *wrong)
{
	if (!split(text, place))
		return fail(wrong, "'%.100s' is no place", text);
	if (put_base(w, place, wrong))
		return -1;
	put_piece(w, ATTR_STRUCT, place->structure);
	put_piece(w, ATTR_FIELD, place->field);
	return place->type.text ? put_type(w, place->type, reads, wrong) : 0;
}

static u32 find_op(const char *word)
{
	static const char *const names[] = {
		[KERNEL_OP_READ] = "read",
		[KERNEL_OP_WRITE] = "write",
		[KERNEL_OP_OR] = "or",
	};

	for (u32 op = KERNEL_OP_READ; op <= KERNEL_OP_OR; op++)
		if (!strcmp(word, names[op]))
			return op;
	return 0;
}

int operation_put(struct attr_writer *w, char **words, char *text, size_t size)
{
	const struct words wrong = { text, size };
	u32 op = find_op(words[0]);
	struct place place;

	if (!op)
		return fail(&wrong, "'%.100s' is no operation: read, write, or", words[0]);
	if (!words[1] || (op != KERNEL_OP_READ && !words[2]))
		return fail(&wrong, "%s wants a place%s", words[0], op == KERNEL_OP_READ ? "" : " and a value");
	attr_put_u32(w, ATTR_KERNEL_OP, op);
	if (put_place(w, words[1], op == KERNEL_OP_READ, &place, &wrong))
		return -1;
	if (op == KERNEL_OP_READ)
		return 2;
	return put_value(w, place.type, words[2], &wrong) ? -1 : 3;
}
