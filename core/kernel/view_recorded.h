/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a view of a record: addresses are looked up among its segments.
 * Depends on kernel/view.h. For view.c alone.
 */
#ifndef KERNEL_VIEW_RECORDED_H
#define KERNEL_VIEW_RECORDED_H

#include "kernel/view.h"

/* As view_translate(), of a view that is recorded; without a physical address. */
MUST_CHECK struct error *view_find_recorded(const struct view *v, u64 root, u64 address, struct view_place *ret);

/* As view_gap(). */
u64 view_gap_recorded(const struct view *v, u64 address);

#endif
