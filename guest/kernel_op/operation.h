/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An operation on the kernel's memory as a person writes it: "read", "runqueues@1.curr.pid:u32".
 * Depends on tlv/codec.h. What a name means is the host's to know.
 */
#ifndef KERNEL_OP_OPERATION_H
#define KERNEL_OP_OPERATION_H

#include "tlv/codec.h"

/* Puts the one that these words begin with, as attributes; how many of the words it took, or -1: what is wrong. */
int operation_put(struct attr_writer *w, char **words, char *wrong, size_t size);

#endif
