/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which build of the program this is: the linker's hash of it (.note.gnu.build-id).
 * Depends on libc.
 */
#ifndef BASE_BUILD_ID_H
#define BASE_BUILD_ID_H

#include "base/types.h"

enum { BUILD_ID_TEXT_MAX = 65 };

/* As hexadecimal digits with a NUL; empty when the program was linked without. */
void build_id_text(char ret[BUILD_ID_TEXT_MAX]);

#endif
