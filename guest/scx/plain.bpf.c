// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A scheduler without a line of its own: sched_ext does for each operation what it does by default, and tasks
 * wait in the global queue. It loads in every kernel that has sched_ext, whatever functions that offers.
 */
#define BPF_NO_KFUNC_PROTOTYPES // those in vmlinux.h lack the address space
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC(".struct_ops")
struct sched_ext_ops plain = {
	.name = "plain",
};
