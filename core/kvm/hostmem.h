/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much memory this process may still use: the host's, or what its control groups leave of it.
 * Depends on base and libc; reads /proc and /sys/fs/cgroup (version 1 and 2).
 * A limit that cannot be read counts as none.
 */
#ifndef KVM_HOSTMEM_H
#define KVM_HOSTMEM_H

#include "base/types.h"

/*
 * Bytes, 0 when not even /proc/meminfo can be read. root is put in front of every path: "" for this
 * machine, a folder with a copy of such files for tests.
 */
u64 host_memory_available(const char *root);

#endif
