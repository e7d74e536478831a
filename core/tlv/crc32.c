// SPDX-License-Identifier: GPL-2.0-or-later
#include "tlv/crc32.h"

/* One bit of the long division. */
#define STEP(c) (((c) >> 1) ^ (0xedb88320u & (0u - ((c)&1u))))

/* The table's entries for single bits: bit 7 reaches the end in one step, each lower one a step later. */
enum {
	BIT7 = 0xedb88320u,
	BIT6 = STEP(BIT7),
	BIT5 = STEP(BIT6),
	BIT4 = STEP(BIT5),
	BIT3 = STEP(BIT4),
	BIT2 = STEP(BIT3),
	BIT1 = STEP(BIT2),
	BIT0 = STEP(BIT1),
};

/*
 * Division is linear: an entry is the XOR of its bits' entries. So the compiler makes the table, and
 * there is no initialisation that two threads could race for.
 */
#define PICK(n, bit) ((n) >> (bit)&1 ? BIT##bit : 0u)
#define ENTRY(n)                                                                                    \
	(PICK(n, 0) ^ PICK(n, 1) ^ PICK(n, 2) ^ PICK(n, 3) ^ PICK(n, 4) ^ PICK(n, 5) ^ PICK(n, 6) ^ \
	 PICK(n, 7))
#define ENTRIES4(n) ENTRY(n), ENTRY((n) + 1), ENTRY((n) + 2), ENTRY((n) + 3)
#define ENTRIES16(n) ENTRIES4(n), ENTRIES4((n) + 4), ENTRIES4((n) + 8), ENTRIES4((n) + 12)
#define ENTRIES64(n) ENTRIES16(n), ENTRIES16((n) + 16), ENTRIES16((n) + 32), ENTRIES16((n) + 48)

static const u32 table[256] = { ENTRIES64(0), ENTRIES64(64), ENTRIES64(128), ENTRIES64(192) };

u32 crc32_ieee(u32 crc, const void *data, size_t size)
{
	const u8 *p = data;

	crc = ~crc;
	while (size--)
		crc = table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
	return ~crc;
}
