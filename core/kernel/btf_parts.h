/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of btf_check() among themselves; the last is about sizes, and that nothing contains or spells itself.
 * Depends on btf_check.h.
 * Recursion and memory are bounded, whatever the blob says.
 */
#ifndef KERNEL_BTF_PARTS_H
#define KERNEL_BTF_PARTS_H

#include "kernel/btf_check.h"

/* Short enough, and of characters that may be printed. */
bool btf_is_name(const char *s);

/*
 * Of types whose shapes and references have been checked. ERROR_FORMAT: a cycle, a size that overflows, a member that
 * is not inside its struct.
 */
MUST_CHECK struct error *btf_measure(const struct btf_bytes *b);

/* ERROR_FORMAT "BTF type ID (KIND) ...". */
MUST_CHECK struct error *btf_bad_type(const struct btf_bytes *b, u32 id, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
