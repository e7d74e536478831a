/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRC-32 as IEEE 802.3, zlib and gzip have it (reflected, polynomial 0xedb88320).
 * Depends on base/types.h alone: host, agent and the freestanding tiny guest share it.
 * crc32_ieee(crc32_ieee(0, a), b) is the CRC of a followed by b.
 */
#ifndef TLV_CRC32_H
#define TLV_CRC32_H

#include "base/types.h"

/* crc is 0 for the first bytes, the result so far for those that follow. */
u32 crc32_ieee(u32 crc, const void *data, size_t size);

#endif
