/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The making of single ACPI tables, for acpi.c, acpi_dsdt.c and acpi_numa.c alone.
 * Depends on base/buf.h and base/topology.h.
 * A table is what lies between table_begin() and table_end(), which fills in length and checksum.
 */
#ifndef X86_ACPI_TABLES_H
#define X86_ACPI_TABLES_H

#include "base/buf.h"
#include "base/topology.h"

/* Puts the common header, 16-byte aligned, and returns where it starts. */
size_t table_begin(struct buf *out, const char signature[4], u8 revision);
void table_end(struct buf *out, size_t start);

size_t dsdt_put(struct buf *out, const struct topology *t);
size_t srat_put(struct buf *out, const struct topology *t);
size_t slit_put(struct buf *out, const struct topology *t);
size_t hmat_put(struct buf *out, const struct topology *t);

#endif
