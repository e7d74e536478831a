/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An encoder for the little AML that the DSDT needs: objects, packages, methods, resource templates.
 * Depends on base/buf.h. Names are four characters, padded with '_'.
 * What is opened is closed by aml_close(), innermost first; lengths are filled in then.
 */
#ifndef X86_AML_H
#define X86_AML_H

#include "base/buf.h"

enum { AML_DEPTH_MAX = 8 };

struct aml {
	struct buf *out;
	u32 depth;
	struct {
		size_t start; /* where the length goes */
		bool resources; /* a buffer: its size is part of it, and a checked end tag ends it */
	} open[AML_DEPTH_MAX];
};

struct aml aml_init(struct buf *out);

/* Things with a body, up to the aml_close() that matches. */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
/* Serialized: it may create names. */
void aml_method(struct aml *a, const char *name, u32 args);
void aml_package(struct aml *a, u32 elements);
void aml_resources(struct aml *a);
void aml_if(struct aml *a);
void aml_else(struct aml *a);
void aml_close(struct aml *a);

/* Name (name, what is encoded next). */
void aml_name(struct aml *a, const char *name);
void aml_integer(struct aml *a, u64 value);
void aml_eisa_id(struct aml *a, const char *id); /* "PNP0A08" */
void aml_bytes(struct aml *a, const void *data, u8 size); /* a buffer of at most 255 bytes */
void aml_arg(struct aml *a, u32 n);
/* A reference to a named object. */
void aml_reference(struct aml *a, const char *name);

/* Statements and expressions; their operands are encoded next, in the order given. */
void aml_equal(struct aml *a); /* left, right */
void aml_not_equal(struct aml *a); /* left, right */
void aml_or(struct aml *a); /* left, right, target */
void aml_return(struct aml *a); /* value */
void aml_create_dword_field(struct aml *a, u32 arg, u32 offset, const char *name);

/* Resource descriptors, inside aml_resources(). */
void aml_io(struct aml *a, u16 port, u8 ports);
void aml_irq_edge(struct aml *a, u32 irq); /* active high, exclusive; 0 to 15 */
void aml_memory32(struct aml *a, u32 start, u32 size);
/* Windows that a bridge passes on. */
void aml_bus_window(struct aml *a, u16 first, u16 last);
void aml_io_window(struct aml *a, u16 first, u16 last);
void aml_memory_window(struct aml *a, u64 start, u64 size);

#endif
