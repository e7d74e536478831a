// SPDX-License-Identifier: GPL-2.0-or-later
#include "freeze/state.h"

#include <string.h>

const char *freeze_source_name(enum freeze_source source)
{
	static const char *const names[FREEZE_SOURCES] = {
		[FREEZE_MAIN] = "main",
		[FREEZE_GUEST] = "guest",
		[FREEZE_PERIODIC] = "periodic",
		[FREEZE_WATCH] = "watch",
		[FREEZE_KERNEL_OP] = "kernel-op",
		[FREEZE_FAILURE] = "failure",
	};

	return names[source];
}

// What it names goes into logs, reports and terminals.
static bool is_printable(const char *s, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (s[i] < ' ' || s[i] > '~')
			return false;
	return true;
}

bool snapshot_tag_is_good(const char *tag)
{
	size_t length = strnlen(tag, WIRE_TAG_SIZE + 1);

	return length && length <= WIRE_TAG_SIZE && is_printable(tag, length);
}

bool snapshot_request_parse(const void *payload, size_t size, struct snapshot_request *ret)
{
	struct wire_snapshot_request wire;

	*ret = (struct snapshot_request){ 0 };
	if (size != sizeof(wire))
		return false;
	memcpy(&wire, payload, sizeof(wire));
	ret->request_id = wire.request_id;
	ret->kind = wire.kind;

	size_t length = strnlen(wire.tag, sizeof(wire.tag));

	if (!length || !is_printable(wire.tag, length))
		return false;
	memcpy(ret->tag, wire.tag, length);
	return true;
}

const char *freeze_state_name(enum freeze_state state)
{
	static const char *const names[] = {
		[FREEZE_IDLE] = "Idle",
		[FREEZE_TOOK_EARLY] = "TookEarly",
		[FREEZE_DONE] = "Done",
	};

	return names[state];
}

bool freeze_state_take_early(enum freeze_state *state, bool dual)
{
	if (!dual || *state != FREEZE_IDLE)
		return false;
	*state = FREEZE_TOOK_EARLY;
	return true;
}

bool freeze_state_take_late(enum freeze_state *state)
{
	if (*state == FREEZE_DONE)
		return false;
	*state = FREEZE_DONE;
	return true;
}
