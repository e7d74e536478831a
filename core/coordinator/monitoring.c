// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/monitoring.h"

#include <stdlib.h>

#include "base/clock.h"
#include "coordinator/internal.h"
#include "coordinator/monitor.h"
#include "machine/host_time.h"

struct monitor_source {
	struct coordinator *coordinator;
	struct monitor *monitor;
	struct host_times *times;
	struct monitor_cpu *cpus;
	struct loop_timer timer;
	u64 interval_ns;
	struct monitor_source *next;
};

static void source_destroy(struct monitor_source *s)
{
	host_times_destroy(s->times);
	monitor_put(s->monitor);
	free(s->cpus);
	free(s);
}

/* Where the one before it points. */
static struct monitor_source **find_source(struct coordinator *c, const struct monitor *m)
{
	struct monitor_source **at = &c->monitors;

	while (*at && (*at)->monitor != m)
		at = &(*at)->next;
	return at;
}

void monitoring_remove(struct coordinator *c, struct monitor *m)
{
	struct monitor_source **at = find_source(c, m);
	struct monitor_source *s = *at;

	if (!s)
		return;
	*at = s->next;
	loop_cancel_timer(&c->loop, &s->timer);
	source_destroy(s);
}

static void look_at_host(struct monitor_source *s)
{
	for (u32 i = 0; i < machine_cpus(s->coordinator->machine); i++) {
		struct monitor_cpu *cpu = &s->cpus[i];

		if (!host_times_ran(s->times, i, &cpu->ran_ns))
			cpu->ran_ns = MONITOR_UNKNOWN;
		cpu->state = (u32)host_times_state(s->times, i);
	}
}

static void sample(struct monitor_source *s)
{
	struct coordinator *c = s->coordinator;

	if (gate_is_held(&c->gate)) {
		monitor_skip_frozen(s->monitor);
		return;
	}
	look_at_host(s);
	monitor_take(s->monitor, clock_now_ns() - c->started_ns - c->frozen_total_ns, c->epoch, s->cpus);
}

/* At a steady pace; turns that were missed are not made up for. */
static void on_sample_timer(void *ctx)
{
	struct monitor_source *s = ctx;
	struct coordinator *c = s->coordinator;

	if (machine_has_stop(c->machine))
		return;
	if (monitor_is_alone(s->monitor)) {
		monitoring_remove(c, s->monitor);
		return;
	}
	sample(s);

	u64 now = clock_now_ns();
	u64 next = s->timer.deadline_ns + s->interval_ns;

	if (next <= now)
		next += (now - next) / s->interval_ns * s->interval_ns + s->interval_ns;
	loop_set_timer(&c->loop, &s->timer, next);
}

struct error *monitoring_add(struct coordinator *c, struct monitor *m, u64 interval_ns)
{
	struct monitor_source *s = calloc(1, sizeof(*s));

	if (!s)
		return error_no_memory();
	s->coordinator = c;
	s->monitor = monitor_get(m);
	s->interval_ns = interval_ns ? interval_ns : 1;
	s->timer = (struct loop_timer){ .fn = on_sample_timer, .ctx = s };
	s->cpus = calloc(machine_cpus(c->machine) + 1, sizeof(*s->cpus));

	struct error *err = s->cpus ? host_times_create(c->machine, &s->times) : error_no_memory();

	if (err) {
		source_destroy(s);
		return err;
	}
	s->next = c->monitors;
	c->monitors = s;
	loop_set_timer(&c->loop, &s->timer, clock_now_ns());
	return NULL;
}

void monitoring_stop(struct coordinator *c)
{
	for (struct monitor_source *s = c->monitors; s; s = s->next)
		loop_cancel_timer(&c->loop, &s->timer);
}

void monitoring_deinit(struct coordinator *c)
{
	while (c->monitors) {
		struct monitor_source *s = c->monitors;

		c->monitors = s->next;
		source_destroy(s);
	}
}
