/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A capture plan: what is copied out of a frozen kernel's memory, as a small program over its addresses.
 * Depends on base, kernel/view.h and capture/record.h. A plan never changes; any thread may use it.
 * Neither the program nor the memory is believed: whatever they say, a run ends, and what it could not copy it notes.
 *
 * The program is a tree of operations in pre-order: `below` operations that follow one belong to it. There is a current
 * address; an operation does something there, and its tree is carried out for each address that it finds. Lua writes
 * the program (lua/ktstr/capture/program.lua), knowing types; here are offsets alone.
 */
#ifndef CAPTURE_PLAN_H
#define CAPTURE_PLAN_H

#include "base/error.h"
#include "base/types.h"
#include "capture/record.h"
#include "kernel/view.h"

enum plan_kind {
	PLAN_AT, /* goes to the address a */
	PLAN_COPY, /* copies b bytes at offset a */
	PLAN_COPY_SIZED, /* as many as reg times reg2 says, at most limit; at offset a */
	PLAN_FOLLOW, /* goes where the pointer at offset a leads, less c; bits b are none of the address */
	PLAN_PER_CPU, /* the current address is per-CPU: goes to each CPU's part; PLAN_ONE: to that of CPU a alone */
	PLAN_ARRAY, /* goes to c elements of b bytes, the first one at offset a */
	PLAN_ARRAY_SIZED, /* likewise, to as many as reg says, at most limit */
	PLAN_LIST, /* goes to each element of the struct list_head at offset a; it is linked at its offset b */
	PLAN_CHAIN, /* likewise, of a list that ends with NULL or an odd number; c: bits that the head has for itself */
	PLAN_RBTREE, /* likewise, of the tree whose root's rb_node is at offset a; c: its children, see below */
	PLAN_XARRAY, /* likewise, of the struct xarray whose xa_head is at offset a; c: how a node is made, see below */
	PLAN_SET, /* puts a into reg */
	PLAN_LOAD, /* reads b bytes (1, 2, 4, 8) at offset a into reg */
	PLAN_IF, /* goes on where reg, with the bits a alone, is b */
	PLAN_IF_TEXT, /* goes on where the b chars at offset a are the text c; PLAN_SUFFIX: where they end in it */
	PLAN_STRING, /* copies the string at offset a up to its NUL, at most limit bytes */
	PLAN_PAGES, /* copies what is mapped of as many pages as reg says, at most limit bytes; of c pages at most */
	PLAN_CALC, /* reg becomes what a (enum plan_calc) makes of it and of reg2 */
	PLAN_MOVE, /* goes to as many bytes behind the current address as reg says */
	PLAN_KINDS,
};

enum plan_flags {
	PLAN_ONE = 1 << 0,
	PLAN_SUFFIX = 1 << 1,
	PLAN_ONCE = 1 << 2, /* PLAN_FOLLOW: an address that it has led to before is not gone to again */
	PLAN_MAY_BE_NULL = 1 << 3, /* PLAN_FOLLOW: a NULL is nothing that is missing */
};

enum plan_calc {
	CALC_ADD,
	CALC_SUBTRACT, /* 0 where it would be less */
	CALC_AND,
	CALC_MAX,
	CALC_SHIFT, /* to the left, by reg2; 0 where that is 64 or more */
	CALC_KINDS,
};

enum {
	PLAN_MAGIC = 0x4e504b54, /* "TKPN" */
	PLAN_REGISTERS = 8,
	PLAN_DEPTH = 32, /* trees within trees */
	PLAN_OPS_MAX = 1 << 16,
	PLAN_TEXT_MAX = 4 << 20,
	PLAN_CPUS_MAX = 4096,
	PLAN_BYTES_MAX = 256 << 20, /* of a record */
	PLAN_COPY_MAX = 16 << 20,
	PLAN_STRING_MAX = 4096,
	PLAN_PAGES_MAX = 1 << 20, /* of 4 KiB */
	PLAN_NAME_MAX = 256,
	PLAN_NOTES_MAX = 512, /* of different kinds or places; the others are counted */
};

struct plan_header {
	u32 magic; /* PLAN_MAGIC */
	u32 ops; /* how many follow */
	u32 text_size; /* bytes of strings, each with its NUL, that follow these */
	u32 cpus;
	u64 percpu_offsets; /* address of what is to be added to a per-CPU address, for each CPU; 0: there is none */
	u64 percpu_unset; /* what stands there before the kernel has set it up; or 0 */
	u64 max_bytes; /* of a record, at most PLAN_BYTES_MAX */
	u64 max_ns; /* that a run may take; it ends there, and notes it */
	u32 max_steps;
	u32 id; /* whatever who made it wants to know its records by */
};

/*
 * PLAN_XARRAY's c: the size of a struct xa_node, from bit 16 on the offset of its slots, from bit 32 on their number.
 * PLAN_RBTREE's: the offsets of a struct rb_node's two pointers to children, the second one from bit 16 on.
 */
struct plan_op {
	u8 kind; /* enum plan_kind */
	u8 flags; /* enum plan_flags */
	u8 reg, reg2;
	u32 below; /* operations of its tree */
	u32 path; /* offset of a string: what this is, for people */
	u32 limit; /* of elements that it goes to, or of bytes */
	u64 a, b, c;
};

/* What may be missing in a record. */
enum plan_note {
	NOTE_NULL, /* a pointer that would have been followed */
	NOTE_ERROR_POINTER,
	NOTE_UNMAPPED,
	NOTE_CIRCLE, /* a list that does not come back to its head */
	NOTE_MANY, /* a list longer than the limit: what comes then */
	NOTE_LARGE, /* what is, or says that it is, larger than the limit */
	NOTE_NO_CPU, /* a CPU whose per-CPU memory the kernel has not set up */
	NOTE_DAMAGED, /* a tree that is none */
	NOTE_FULL, /* here the record had as many bytes as it may have, and the rest is missing */
	NOTE_STEPS, /* likewise the steps */
	NOTE_TIME, /* likewise the time */
	NOTE_KINDS,
};

/* "null", "unmapped" ... */
const char *plan_note_name(enum plan_note kind);

struct plan;

/* bytes: a header, operations, text. ERROR_FORMAT: it is none, with the operation where that shows. */
MUST_CHECK struct error *plan_create(const void *bytes, size_t size, struct plan **ret);
struct plan *plan_get(struct plan *p);
/* Destroys it when nobody else holds it. NULL is allowed. */
void plan_put(struct plan *p);
u32 plan_cpus(const struct plan *p);

/*
 * A run in three parts, so that only the middle one needs the machine frozen: memory is taken before, the pieces are
 * put in order afterwards. The run holds its plan.
 */
struct plan_run;

/* expected: bytes that the record will have, of an earlier one; it is only faster where that is right. */
MUST_CHECK struct error *plan_run_create(struct plan *p, u64 expected, struct plan_run **ret);
/* Of a machine that stands still. Whatever goes wrong is a note. */
void plan_run_execute(struct plan_run *run, const struct view *view);
/* Behind that, beside what the plan says: size bytes from there, as far as they are mapped. Nothing is noted. */
void plan_run_add(struct plan_run *run, u64 address, u64 size);
enum { PLAN_STACK = 16 << 10 };
/*
 * Likewise the stack that sp is on, from there to its end; where that is an interrupt's, which has in its last word
 * where the one before it was left, that one too.
 */
void plan_run_add_stack(struct plan_run *run, u64 sp);
/* What was recorded; the run is destroyed, whatever comes. */
MUST_CHECK struct error *plan_run_finish(struct plan_run *run, struct record **ret);
/* NULL is allowed. */
void plan_run_destroy(struct plan_run *run);

#endif
