/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI tables of a machine: RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG, SRAT, and with more than one
 * node SLIT and HMAT. Depends on base, layout.h, apicid.h; makes no system call.
 * CPUs, LLCs and nodes come out numbered as in the topology; every checksum is right.
 */
#ifndef X86_ACPI_H
#define X86_ACPI_H

#include "base/buf.h"
#include "base/error.h"
#include "base/topology.h"

/*
 * Appends to out (empty, from BUF_INIT) the bytes to place at gpa, 64-byte aligned. The RSDP is the first
 * of them. Memory is laid out by layout.h: the nodes' memory in order of node, from 0, round the hole.
 */
MUST_CHECK struct error *acpi_build(const struct topology *t, u64 gpa, struct buf *out);

#endif
