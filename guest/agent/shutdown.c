// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/shutdown.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "agent/program.h"
#include "agent/workers.h"

#define KILL_LIMIT_NS (5 * 1000000000ull)
#define KILL_AGAIN_NS (1 * 1000000ull)
#define FLUSH_LIMIT_NS (10 * 1000000000ull)

int op_shutdown(struct agent *agent, const struct request *q, struct fail *f)
{
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct attr a;

	agent->shutdown.code = 0;
	while (attr_next(&r, &a))
		if (a.info->type == ATTR_CODE)
			agent->shutdown.code = attr_s32(&a);
	if (r.malformed)
		return fail_malformed(f);
	agent->shutdown.request_id = q->id;
	agent->shutdown.deadline = agent->now + KILL_LIMIT_NS;
	agent->childless = false;
	return 0;
}

void kill_everything(struct agent *agent)
{
	programs_kill(agent);
	workers_kill(agent);
	if (agent->init)
		kill(-1, SIGKILL);
}

/* Again and again, for what was being forked meanwhile. */
static bool is_quiet(struct agent *agent)
{
	if (agent->now >= agent->shutdown.deadline) {
		agent_log(agent, "shutting down although something still runs");
		return true;
	}
	if (agent->childless && programs_are_quiet(agent) && workers_are_quiet(agent))
		return true;
	kill_everything(agent);
	/* There may be nobody left to send the signal that says so. */
	agent->reap = true;
	agent_wake_at(agent, agent->now + KILL_AGAIN_NS);
	return false;
}

bool shutdown_step(struct agent *agent)
{
	struct wire_exit last = { .code = agent->shutdown.code };
	u8 *payload;

	if (!agent->shutdown.request_id)
		return false;
	if (!agent->shutdown.exit_sent) {
		if (!is_quiet(agent))
			return false;
		if (!reply_has_room(agent) || !port_has_room(&agent->port, REPLY_MAX)) {
			agent->again = true;
			return false;
		}
		if (agent->init)
			sync();
		reply_empty(agent, agent->shutdown.request_id);
		payload = port_frame(&agent->port, sizeof(last));
		memcpy(payload, &last, sizeof(last));
		port_frame_done(&agent->port, MSG_EXIT, sizeof(last));
		agent->shutdown.exit_sent = true;
		agent->shutdown.deadline = agent->now + FLUSH_LIMIT_NS;
	}
	/* The driver's queue takes a write at once or not at all; the last one is waited for in it. */
	if (agent->init && port_queued(&agent->port) <= PORT_WRITE_MAX) {
		port_flush_blocking(&agent->port);
		return true;
	}
	agent_wake_at(agent, agent->shutdown.deadline);
	return !port_queued(&agent->port) || agent->now >= agent->shutdown.deadline;
}
