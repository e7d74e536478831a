// SPDX-License-Identifier: GPL-2.0-or-later
#include "work/work.h"

#define WORK_OPS_ENTRY(symbol, ...) [WORK_##symbol] = &symbol##_ops,

static const struct work_ops *const ops[WORK_TYPE_COUNT] = { WORK_TYPES(WORK_OPS_ENTRY) };

const struct work_ops *work_ops_get(enum work_type_index type)
{
	return ops[type];
}
