/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image's file `memory`: filled from a guest's memory, looked at, copied; its zeros are holes.
 * Depends on kvm/memory.h and blocks.h.
 * Reading is a matter of what is there: holes are neither read nor filled.
 */
#ifndef WARM_MEMORY_FILE_H
#define WARM_MEMORY_FILE_H

#include "base/buf.h"
#include "base/error.h"
#include "kvm/memory.h"
#include "warm/state_file.h"

/* A file without a name in dir; in memory when dir is NULL or its file system has no such files. */
MUST_CHECK struct error *memory_file_create(const char *dir, u64 size, int *ret);

/* Writes what is not zero into a file of holes. sums: the checksums of the same bytes. */
MUST_CHECK struct error *memory_file_store(int fd, const char *dir, const struct guest_memory *memory,
					   struct buf *sums);

/* ERROR_FORMAT: the first block that is not what state says. */
MUST_CHECK struct error *memory_file_verify(int fd, const struct state_file *state);

/* The same while it is copied into a file of holes, which is in dir. */
MUST_CHECK struct error *memory_file_copy(int fd, const struct state_file *state, int to, const char *dir);

#endif
