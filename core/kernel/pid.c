// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/pid.h"

enum {
	/* An XArray's entry says in its low bits what it is. */
	ENTRY_KIND = 3,
	ENTRY_POINTER = 0,
	ENTRY_INTERNAL = 2, /* a node, or below the first page something else */

	SHIFT_MAX = 60,
	TRIES = 4, /* of a walk that a running guest gets in the way of */
};

#define FIRST_NODE 4096ULL

static struct error *read_word(const struct view *v, u64 address, u64 *ret)
{
	return view_read_scalar(v, address, sizeof(u64), ret);
}

static struct error *not_found(u32 pid)
{
	return error_create(ERROR_NOT_FOUND, "there is no task %u", pid);
}

static bool is_node(u64 entry)
{
	return (entry & ENTRY_KIND) == ENTRY_INTERNAL && entry > FIRST_NODE;
}

/* *shift is that of the level above, one more than any at first; gets the node's. */
static struct error *open_node(const struct view *v, const struct pid_layout *l, u64 node, u32 *shift)
{
	u64 found;
	struct error *err = view_read_scalar(v, node + l->node_shift, 1, &found);

	if (err)
		return err;
	if (found > SHIFT_MAX || found % l->slot_bits || (*shift != UINT32_MAX && found + l->slot_bits != *shift))
		return error_create(ERROR_FORMAT, "the tree of pids: the node at 0x%llx has the shift %llu",
				    (unsigned long long)node, (unsigned long long)found);
	*shift = (u32)found;
	return NULL;
}

/* What stands for an index; 0: nothing. Each node's shift is less than the one's above; below 0 there can be none. */
static struct error *find_entry(const struct view *v, const struct pid_layout *l, u64 index, u64 *ret)
{
	u64 slots = 1ULL << l->slot_bits, entry;
	u32 shift = UINT32_MAX;
	struct error *err = read_word(v, l->head, &entry);

	*ret = 0;
	while (!err && is_node(entry)) {
		bool first = shift == UINT32_MAX;
		u64 node = entry - ENTRY_INTERNAL;

		err = open_node(v, l, node, &shift);
		if (err)
			return err;
		if (first && index >> shift >> l->slot_bits)
			return NULL; // beyond what the tree reaches to
		err = read_word(v, node + l->node_slots + (index >> shift & (slots - 1)) * sizeof(u64), &entry);
	}
	if (!err && (shift == 0 || (shift == UINT32_MAX && index == 0)))
		*ret = entry;
	return err;
}

static struct error *find_once(const struct view *v, const struct pid_layout *l, u32 pid, u64 *ret)
{
	u64 base, entry = 0, node, found;
	struct error *err = view_read_scalar(v, l->base, 4, &base);

	if (!err && pid >= base)
		err = find_entry(v, l, pid - base, &entry);
	if (err)
		return err;
	if (!entry || (entry & ENTRY_KIND) != ENTRY_POINTER)
		return not_found(pid);
	err = read_word(v, entry + l->pid_tasks, &node);
	if (err)
		return err;
	if (!node)
		return not_found(pid); // it is kept as that of a group, or by a descriptor
	*ret = node - l->task_links;
	err = view_read_scalar(v, *ret + l->task_pid, 4, &found);
	if (!err && found != pid)
		err = error_create(ERROR_FORMAT, "the tree of pids leads from %u to a task with the pid %llu", pid,
				   (unsigned long long)found);
	return err;
}

struct error *pid_find_task(const struct view *v, const struct pid_layout *layout, u32 pid, u64 *ret)
{
	struct error *err = NULL;

	if (!layout->head)
		return error_create(ERROR_UNSUPPORTED, "this kernel's tasks cannot be found by their pids");
	for (u32 i = 0; i < TRIES; i++) {
		error_destroy(err);
		err = find_once(v, layout, pid, ret);
		if (!err || (error_code(err) != ERROR_FORMAT && error_code(err) != ERROR_UNMAPPED))
			return err;
	}
	return err;
}
