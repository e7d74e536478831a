// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/group.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/child.h"

static int find_type(const char *name, u32 *ret, struct fail *f)
{
	for (*ret = 0; *ret < WORK_TYPE_COUNT; ++*ret)
		if (!strcmp(work_type_infos[*ret].name, name))
			return 0;
	return fail_with(f, EINVAL, "there is no work type '%s'", name);
}

static int set_param(struct group_plan *plan, struct wire_param param, struct fail *f)
{
	const struct work_type_info *info = &work_type_infos[plan->type];
	const struct work_param_info *p = &info->params[param.index];

	if (param.index >= work_param_count(info))
		return fail_with(f, EINVAL, "%s has no parameter %llu", info->name,
				 (unsigned long long)param.index);
	if (param.value < p->min || param.value > p->max)
		return fail_with(f, EINVAL, "%s: %s is from %llu to %llu, not %llu", info->name, p->name,
				 (unsigned long long)p->min, (unsigned long long)p->max,
				 (unsigned long long)param.value);
	plan->params[param.index] = param.value;
	return 0;
}

static int check_count(const struct group_plan *plan, struct fail *f)
{
	const struct work_type_info *info = &work_type_infos[plan->type];
	u64 cell = work_cell_size(info, plan->params);

	if (!plan->count || plan->count > WORK_GROUP_MAX)
		return fail_with(f, EINVAL, "a group has 1 to %d workers, not %u", WORK_GROUP_MAX,
				 plan->count);
	if (plan->count % cell)
		return fail_with(f, EINVAL, "%s needs a multiple of %llu workers, not %u", info->name,
				 (unsigned long long)cell, plan->count);
	return 0;
}

int group_plan_parse(const struct request *q, struct group_plan *ret, struct fail *f)
{
	struct attr_reader r = attr_reader_init(q->body, q->length);
	char name[64] = "";
	struct attr a;
	u32 type;

	*ret = (struct group_plan){ .count = 0 };
	while (!f->error && attr_next(&r, &a)) {
		if (a.info->type == ATTR_WORK)
			take_string(&a, name, sizeof(name), f);
		else if (a.info->type == ATTR_COUNT)
			ret->count = attr_u32(&a);
		else
			placement_take(&ret->placement, &a, f);
	}
	if (!f->error && r.malformed)
		fail_malformed(f);
	if (f->error || find_type(name, &type, f) || placement_check(&ret->placement, f))
		return f->error;
	ret->type = type;
	for (u32 i = 0; i < WORK_PARAMS_MAX; i++)
		ret->params[i] = work_type_infos[type].params[i].initial;

	/* Parameters may come before the type that gives them a meaning. */
	r = attr_reader_init(q->body, q->length);
	while (!f->error && attr_next(&r, &a))
		if (a.info->type == ATTR_PARAM)
			set_param(ret, attr_param(&a), f);
	return f->error ? f->error : check_count(ret, f);
}

/* The group's header, the cells, the slots. */
static int map_memory(struct group *g, u32 cell_count)
{
	size_t cells = (size_t)WORK_CELL_BYTES * cell_count;

	g->memory_size = WORK_CELL_BYTES + cells + sizeof(struct worker_slot) * g->count;
	g->memory = mmap(NULL, g->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g->memory == MAP_FAILED)
		return errno;
	g->shared = g->memory;
	g->cells = (u8 *)g->memory + WORK_CELL_BYTES;
	g->slots = (void *)(g->cells + cells);
	return 0;
}

struct recruit {
	const struct agent *agent;
	const struct group_plan *plan;
	const struct group *group;
	const struct work_cell *cell;
	const struct work_line *line;
	u32 index, member;
	int line_fd;
};

_Noreturn static void become_worker(const struct recruit *r)
{
	struct worker_slot *slot = &r->group->slots[r->index];
	int keep[WORK_CELL_FDS + 1];
	struct fail f;
	struct worker w = {
		.slot = slot,
		.line = r->line,
		.group = r->group->shared,
		.cell = r->cell,
		.params = r->group->params,
		.member = r->member,
		.epoch = r->line->epoch,
	};

	child_reset(r->agent);
	if (!r->agent->init)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int fd = 0; fd < 3; fd++)
		dup2(r->agent->null_fd, fd);
	memcpy(keep, r->cell->fds, sizeof(r->cell->fds));
	keep[r->cell->fd_count] = r->line_fd;
	child_keep_fds(keep, r->cell->fd_count + 1);
	if (placement_apply(&r->plan->placement, r->agent->cgroup_root, &f)) {
		slot->error = f.error;
		snprintf(slot->reason, sizeof(slot->reason), "%.*s", (int)sizeof(slot->reason) - 1, f.message);
		__atomic_store_n(&slot->state, WORKER_FAILED, __ATOMIC_RELEASE);
		_exit(1);
	}
	worker_main(&w, &work_type_infos[r->plan->type], work_ops_get(r->plan->type), r->line_fd);
}

static int fork_worker(struct group *g, const struct recruit *r, struct fail *f)
{
	pid_t pid;

	g->slots[r->index].report.group = g->id;
	g->slots[r->index].report.index = r->index;
	pid = fork();
	if (pid < 0)
		return fail_errno(f, "cannot fork worker %u", r->index);
	if (!pid)
		become_worker(r);
	g->slots[r->index].report.pid = (u32)pid;
	g->processes[r->index].pid = pid;
	g->alive++;
	return 0;
}

static int fork_cell(struct group *g, struct recruit *r, u32 cell_size, struct fail *f)
{
	const struct work_ops *ops = work_ops_get(g->type);
	struct work_cell cell = {
		.shared = g->cells + (size_t)WORK_CELL_BYTES * (r->index / cell_size),
		.size = cell_size,
	};
	int error = ops->prepare ? ops->prepare(&cell, g->params) : 0;

	r->cell = &cell;
	if (error) {
		errno = error;
		fail_errno(f, "cannot prepare %s", work_type_infos[g->type].name);
	}
	for (r->member = 0; r->member < cell_size && !error; r->member++, r->index++)
		error = fork_worker(g, r, f);
	for (u32 i = 0; i < cell.fd_count; i++)
		close(cell.fds[i]);
	return error;
}

struct group *group_create(struct agent *agent, const struct group_plan *plan, u32 id,
			   const struct work_line *line, int line_fd, struct fail *f)
{
	u32 cell_size = (u32)work_cell_size(&work_type_infos[plan->type], plan->params);
	struct recruit r = { .agent = agent, .plan = plan, .line = line, .line_fd = line_fd };
	struct group *g = calloc(1, sizeof(*g));

	if (!g || !(g->processes = calloc(plan->count, sizeof(*g->processes)))) {
		fail_with(f, ENOMEM, "no memory");
		free(g);
		return NULL;
	}
	g->id = id;
	g->type = plan->type;
	g->count = plan->count;
	memcpy(g->params, plan->params, sizeof(g->params));
	errno = map_memory(g, plan->count / cell_size);
	if (errno) {
		fail_errno(f, "no memory for %u workers", plan->count);
		free(g->processes);
		free(g);
		return NULL;
	}
	r.group = g;
	while (r.index < g->count) {
		if (fork_cell(g, &r, cell_size, f)) {
			group_signal(g, SIGKILL);
			group_destroy(g);
			return NULL;
		}
	}
	return g;
}

void group_destroy(struct group *g)
{
	munmap(g->memory, g->memory_size);
	free(g->processes);
	free(g);
}

void group_signal(const struct group *g, int number)
{
	for (u32 i = 0; i < g->count; i++)
		if (g->processes[i].pid > 0 && !g->processes[i].ended)
			kill(g->processes[i].pid, number);
}

/* How a worker ended that had not reported. */
static void describe_end(int status, char *out, size_t capacity)
{
	if (WIFSIGNALED(status))
		snprintf(out, capacity, "ended by signal %d", WTERMSIG(status));
	else
		snprintf(out, capacity, "ended with status %d", WEXITSTATUS(status));
}

bool group_has_failed(const struct group *g, struct fail *f)
{
	char text[64];

	for (u32 i = 0; i < g->count; i++) {
		const struct worker_slot *s = &g->slots[i];

		if (!g->processes[i].ended)
			continue;
		describe_end(g->processes[i].status, text, sizeof(text));
		if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) == WORKER_FAILED)
			fail_with(f, s->error ? s->error : EIO, "worker %u: %.*s", i,
				  (int)sizeof(s->reason) - 1, s->reason);
		else
			fail_with(f, EIO, "worker %u %s before the start", i, text);
		return true;
	}
	return false;
}

bool group_is_at_line(const struct group *g)
{
	for (u32 i = 0; i < g->count; i++)
		if (__atomic_load_n(&g->slots[i].state, __ATOMIC_ACQUIRE) != WORKER_AT_LINE)
			return false;
	return true;
}

size_t group_report(const struct group *g, u32 i, u8 *payload)
{
	const struct worker_process *process = &g->processes[i];
	const struct worker_slot *s = &g->slots[i];
	struct wire_worker_report report = s->report;
	struct attr_writer w = attr_writer_init(payload + sizeof(report), GROUP_REPORT_MAX - sizeof(report));
	u32 state = __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
	u64 wakes = s->wakes;
	char text[4096];

	report.group = g->id;
	report.index = i;
	report.pid = (u32)process->pid;
	report.flags = state == WORKER_DONE ? 0 : process->killed ? REPORT_KILLED :
								    REPORT_FAILED;
	report.wake_count_low = (u32)wakes;
	report.wake_count_high = (u32)(wakes >> 32);
	memcpy(payload, &report, sizeof(report));
	cpu_list_format(s->cpus, text, sizeof(text));
	attr_put_string(&w, ATTR_CPU_USED, text);
	attr_put_u64_array(&w, ATTR_WAKE_SAMPLES, s->samples, wakes < WORK_SAMPLES ? wakes : WORK_SAMPLES);
	if (report.flags & REPORT_FAILED) {
		if (state == WORKER_FAILED)
			snprintf(text, sizeof(text), "%.*s", (int)sizeof(s->reason) - 1, s->reason);
		else
			describe_end(process->status, text, sizeof(text));
		attr_put_string(&w, ATTR_REASON, text);
	}
	return sizeof(report) + w.size;
}
