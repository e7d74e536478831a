// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/report.h"

#include "tiny/console.h"

static bool said_ready;

struct text report_text(struct report *report)
{
	return (struct text){ .data = report->data, .capacity = sizeof(report->data) };
}

void report_output(struct report *report, struct text *text)
{
	console_send(MSG_STDOUT, report, (u32)(sizeof(report->head) + text->size));
	text->size = 0;
}

static void send_ready(const struct attr *run_id)
{
	u8 buffer[128];
	struct attr_writer w = attr_writer_init(buffer, sizeof(buffer));

	attr_put_u32(&w, ATTR_VERSION, WIRE_VERSION);
	attr_put_string(&w, ATTR_RELEASE, "0.1.0-tiny");
	attr_put_u32(&w, ATTR_PID, 1);
	if (run_id)
		attr_put_bytes(&w, ATTR_RUN_ID, run_id->value, run_id->length);
	console_send(MSG_SYS_RDY, buffer, (u32)w.size);
}

void report_ready(void)
{
	if (said_ready)
		return;
	said_ready = true;
	send_ready(NULL);
}

void report_restored(const struct attr *run_id)
{
	send_ready(run_id);
}

void report_at_work(void)
{
	report_ready();
	console_flush();
}

void report_exit(s32 code)
{
	const struct wire_exit message = { .code = code };

	console_send(MSG_EXIT, &message, sizeof(message));
	console_flush();
}
