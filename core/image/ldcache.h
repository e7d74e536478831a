/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads /etc/ld.so.cache, where glibc's loader looks libraries up by name.
 * Depends on base. Only what x86-64 programs use, without the variants for newer processors.
 * Every offset in it is checked; a cache that makes no sense has nothing in it.
 */
#ifndef IMAGE_LDCACHE_H
#define IMAGE_LDCACHE_H

#include "base/types.h"

/* The path of a library, inside data, or NULL. */
const char *ldcache_find(const u8 *data, size_t size, const char *library);

#endif
