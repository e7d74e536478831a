// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/alarm.h"

#include "tiny/cpu.h"
#include "tiny/report.h"
#include "tiny/trap.h"

static void put(struct text *t, const char *before, u64 number)
{
	text_put(t, before);
	text_put_number(t, (s64)number);
}

static void wait_and_report(u64 armed, u32 khz, u32 ms)
{
	static struct report report;
	struct text t = report_text(&report);

	report_at_work();
	while (!timer_ticks())
		wait_for_interrupt();
	put(&t, "tsc ", tsc_read() - armed);
	put(&t, " of ", khz);
	put(&t, " kHz, asked for ", ms);
	text_put(&t, " ms\n");
	report_output(&report, &t);
}

bool alarm_by_count(u32 ms)
{
	u32 khz = tsc_khz();
	u64 now = tsc_read();

	if (!khz)
		return false;
	timer_start_once(ms);
	wait_and_report(now, khz, ms);
	return true;
}

bool alarm_by_deadline(u32 ms)
{
	u32 khz = tsc_khz();
	u64 now = tsc_read();

	if (!khz || !timer_has_deadline())
		return false;
	timer_start_deadline(now + (u64)khz * ms);
	wait_and_report(now, khz, ms);
	return true;
}
