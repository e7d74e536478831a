/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A core file as vmcore.h writes it, opened again: the same view of the kernel as that of the machine, frozen for good.
 * Depends on base, kernel/view.h and kernel/vmcore.h. Nothing in the file is believed without a check; but its bytes
 * must not change as long as it is open.
 * What is written through the view stays in this process: the file is mapped privately.
 */
#ifndef KERNEL_VMCORE_FILE_H
#define KERNEL_VMCORE_FILE_H

#include "base/error.h"
#include "base/types.h"
#include "kernel/view.h"
#include "kernel/vmcore.h"

struct vmcore_file;

/*
 * ERROR_FORMAT: no core file of a Linux kernel, cut short, or damaged. ERROR_UNSUPPORTED: a good one, but of another
 * architecture, without the kernel's image by its own addresses, or with memory in more than two pieces; what
 * makedumpfile has compressed is none of ELF's.
 */
MUST_CHECK struct error *vmcore_open(const char *path, struct vmcore_file **ret);
/* The view says ERROR_ENDED from now on, and the memory is given back. Twice is fine. */
void vmcore_end(struct vmcore_file *f);
/* NULL is allowed. */
void vmcore_close(struct vmcore_file *f);

/* It lives as long as f; its root and direct map are still to be set. */
struct view *vmcore_view(struct vmcore_file *f);
/* The text of VMCOREINFO: lines of NAME=value. */
const char *vmcore_info(const struct vmcore_file *f);
u32 vmcore_cpu_count(const struct vmcore_file *f);
/*
 * NULL: there is no such CPU. Without a note of QEMU's kind, segments are selectors alone, control registers 0;
 * efer and cr8 always are.
 */
const struct kvm_regs *vmcore_regs(const struct vmcore_file *f, u32 cpu);
const struct kvm_sregs *vmcore_sregs(const struct vmcore_file *f, u32 cpu);

#endif
