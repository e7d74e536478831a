/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The work types: names, parameters and group sizes. The agent runs them, the host checks against them.
 * Depends on base/types.h alone; a header only, so that both builds read the same table.
 * A new type is one line in WORK_TYPES and one file guest/work/<symbol>.c with run_<symbol>().
 */
#ifndef WORK_TABLE_H
#define WORK_TABLE_H

#include "base/types.h"

enum {
	WORK_PARAMS_MAX = 8,
	WORK_GROUP_MAX = 4096, /* workers in a group */
};

struct work_param_info {
	const char *name;
	const char *unit; /* "" for a plain count */
	u64 initial; /* the default; min <= initial <= max, both inclusive */
	u64 min, max;
};

struct work_type_info {
	const char *name;
	/* Workers come in cells (a pair, a waker and its fan) of size_base members, plus the value of
	 * parameter size_param when that is not negative; a group is a whole number of cells. */
	u32 size_base;
	s32 size_param;
	/* In the order of struct wire_param's index; the first without a name ends them. */
	struct work_param_info params[WORK_PARAMS_MAX];
};

/* Group sizes. */
#define WORK_ANY 1, -1
#define WORK_PAIRED 2, -1

#define WORK_NO_PARAMS \
	{              \
		0      \
	}

/* TYPE(symbol, name, group size, parameters: name, unit, default, min, max each) */
// clang-format off
#define WORK_TYPES(TYPE) \
	TYPE(spin_wait, "SpinWait", WORK_ANY, WORK_NO_PARAMS) \
	TYPE(yield_heavy, "YieldHeavy", WORK_ANY, WORK_NO_PARAMS) \
	TYPE(bursty, "Bursty", WORK_ANY, \
	     { "burst_ms", "ms", 50, 1, 3600000 }, \
	     { "sleep_ms", "ms", 100, 0, 3600000 }) \
	TYPE(futex_ping_pong, "FutexPingPong", WORK_PAIRED, \
	     { "spin_iterations", "", 1024, 0, 1000000000 }) \
	TYPE(pipe_io, "PipeIo", WORK_PAIRED, \
	     { "burst_iterations", "", 1024, 0, 1000000000 })
// clang-format on

#define WORK_INDEX_(symbol, ...) WORK_##symbol,
enum work_type_index {
	WORK_TYPES(WORK_INDEX_) WORK_TYPE_COUNT,
};

/* The group size arrives here as two arguments, already expanded. */
#define WORK_INFO_(symbol, name, base, param, ...) { name, base, param, { __VA_ARGS__ } },
#define WORK_INFO_EXPAND_(...) WORK_INFO_(__VA_ARGS__)
static const struct work_type_info work_type_infos[WORK_TYPE_COUNT] = { WORK_TYPES(WORK_INFO_EXPAND_) };

static inline u32 work_param_count(const struct work_type_info *info)
{
	u32 n = 0;

	while (n < WORK_PARAMS_MAX && info->params[n].name)
		n++;
	return n;
}

/* Members of a cell: what a group's size must be a multiple of. params holds work_param_count() values. */
static inline u64 work_cell_size(const struct work_type_info *info, const u64 *params)
{
	return info->size_base + (info->size_param < 0 ? 0 : params[info->size_param]);
}

#endif
