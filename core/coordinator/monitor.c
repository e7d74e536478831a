// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/monitor.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* Where the last cell's steps led: the next one often goes the same way. */
struct trail {
	const struct monitor_cell *cell;
	u64 address;
	bool found;
};

struct monitor {
	u32 references; /* atomic */
	u32 capacity, cell_count;
	struct monitor_program program;
	size_t sample_size;
	struct monitor_cell *cells;
	struct monitor_step *steps;
	bool *uses_cpu; /* program.cpus */
	u8 *covered; /* a bit for each value that has a cell */

	/* The sampling thread's own. */
	struct view view;
	u64 *offsets; /* each CPU's, as read for this sample */
	struct monitor_sample *scratch;

	pthread_mutex_t lock; /* for: */
	u8 *ring; /* sample n at n % capacity */
	struct monitor_counts counts;
};

/* --- its life --- */

static bool is_scalar(u8 size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

static struct error *bad_cell(u32 index, const char *what)
{
	return error_create(ERROR_INVALID, "a monitor's cell %u: %s", index, what);
}

static struct error *check_cell(const struct monitor_program *p, const struct monitor_cell *cells, u32 index,
				const struct monitor_step *steps, u32 step_count)
{
	const struct monitor_cell *c = &cells[index];
	bool per_cpu = c->flags & MONITOR_PER_CPU;

	if (!is_scalar(c->size))
		return bad_cell(index, "its size must be 1, 2, 4 or 8");
	if (c->value >= p->values)
		return bad_cell(index, "there is no such value");
	if (c->cpu != MONITOR_NO_CPU && c->cpu >= p->cpus)
		return bad_cell(index, "there is no such CPU");
	if (c->steps > MONITOR_STEPS_MAX || c->first_step > step_count || c->steps > step_count - c->first_step)
		return bad_cell(index, "there are no such steps");
	for (u32 i = 0; i < c->steps; i++)
		per_cpu |= steps[c->first_step + i].per_cpu != 0;
	if (per_cpu && (c->cpu == MONITOR_NO_CPU || !p->offsets))
		return bad_cell(index, "something per-CPU of no CPU");
	return NULL;
}

static struct error *check_program(const struct monitor_program *p, const struct monitor_cell *cells, u32 cell_count,
				   const struct monitor_step *steps, u32 step_count)
{
	if (cell_count > MONITOR_CELLS_MAX || step_count > MONITOR_CELLS_MAX || p->values > MONITOR_CELLS_MAX)
		return error_create(ERROR_INVALID, "a monitor reads at most %d cells", MONITOR_CELLS_MAX);
	for (u32 i = 0; i < cell_count; i++) {
		struct error *err = check_cell(p, cells, i, steps, step_count);

		if (err)
			return err;
	}
	return NULL;
}

static size_t present_size(const struct monitor_program *p)
{
	return ((size_t)p->values + 7) / 8;
}

static size_t size_of_sample(const struct monitor_program *p)
{
	return sizeof(struct monitor_sample) + (size_t)p->cpus * sizeof(struct monitor_cpu) +
	       (size_t)p->values * sizeof(u64) + ALIGN_UP(present_size(p), sizeof(u64));
}

static void *copy_array(const void *data, size_t count, size_t size)
{
	void *copy = calloc(count + 1, size);

	if (copy && count)
		memcpy(copy, data, count * size);
	return copy;
}

static void destroy(struct monitor *m)
{
	pthread_mutex_destroy(&m->lock);
	free(m->cells);
	free(m->steps);
	free(m->uses_cpu);
	free(m->covered);
	free(m->offsets);
	free(m->scratch);
	free(m->ring);
	free(m);
}

static bool allocate(struct monitor *m, const struct monitor_cell *cells, const struct monitor_step *steps,
		     u32 step_count)
{
	m->cells = copy_array(cells, m->cell_count, sizeof(*cells));
	m->steps = copy_array(steps, step_count, sizeof(*steps));
	m->uses_cpu = calloc(m->program.cpus + 1, sizeof(*m->uses_cpu));
	m->covered = calloc(1, present_size(&m->program) + 1);
	m->offsets = calloc(m->program.cpus + 1, sizeof(*m->offsets));
	m->scratch = calloc(1, m->sample_size);
	m->ring = calloc(m->capacity, m->sample_size);
	return m->cells && m->steps && m->uses_cpu && m->covered && m->offsets && m->scratch && m->ring;
}

static void note_uses(struct monitor *m)
{
	for (u32 i = 0; i < m->cell_count; i++) {
		const struct monitor_cell *c = &m->cells[i];

		m->covered[c->value / 8] |= (u8)(1u << c->value % 8);
		if (m->program.offsets && c->cpu != MONITOR_NO_CPU)
			m->uses_cpu[c->cpu] = true;
	}
}

struct error *monitor_create(const struct view *view, const struct monitor_program *program,
			     const struct monitor_cell *cells, u32 cell_count, const struct monitor_step *steps,
			     u32 step_count, u32 capacity, struct monitor **ret)
{
	struct error *err = check_program(program, cells, cell_count, steps, step_count);
	size_t size = size_of_sample(program);

	if (err)
		return err;
	if (!capacity || capacity > MONITOR_BYTES_MAX / size)
		return error_create(ERROR_INVALID, "%u samples of %zu bytes: a monitor keeps 1 to %zu of this size",
				    capacity, size, MONITOR_BYTES_MAX / size);

	struct monitor *m = calloc(1, sizeof(*m));

	if (!m)
		return error_no_memory();
	pthread_mutex_init(&m->lock, NULL);
	m->references = 1;
	m->capacity = capacity;
	m->cell_count = cell_count;
	m->program = *program;
	m->sample_size = size;
	m->view = *view;
	// Freezes are main's, and nothing is sampled in one.
	m->view.frozen = 0;
	m->view.expirations_now = NULL;
	if (!allocate(m, cells, steps, step_count)) {
		destroy(m);
		return error_no_memory();
	}
	note_uses(m);
	*ret = m;
	return NULL;
}

struct monitor *monitor_get(struct monitor *m)
{
	__atomic_fetch_add(&m->references, 1, __ATOMIC_RELAXED);
	return m;
}

void monitor_put(struct monitor *m)
{
	if (m && __atomic_sub_fetch(&m->references, 1, __ATOMIC_ACQ_REL) == 0)
		destroy(m);
}

bool monitor_is_alone(const struct monitor *m)
{
	return __atomic_load_n(&m->references, __ATOMIC_ACQUIRE) == 1;
}

/* --- sampling --- */

static bool read_number(const struct monitor *m, u64 address, u32 size, u64 *ret)
{
	struct error *err = view_read_scalar(&m->view, address, size, ret);

	error_destroy(err);
	return !err;
}

/* False: the kernel has not set up the per-CPU area of one of them yet, or cannot have. */
static bool read_offsets(struct monitor *m)
{
	for (u32 i = 0; i < m->program.cpus; i++) {
		if (!m->uses_cpu[i])
			continue;
		if (!read_number(m, m->program.offsets + i * sizeof(u64), sizeof(u64), &m->offsets[i]) ||
		    !m->offsets[i] || m->offsets[i] == m->program.unset)
			return false;
	}
	return true;
}

static bool follow(const struct monitor *m, const struct monitor_cell *c, u64 *ret)
{
	u64 own = c->cpu == MONITOR_NO_CPU ? 0 : m->offsets[c->cpu];
	u64 address = c->start + (c->flags & MONITOR_PER_CPU ? own : 0);

	for (u32 i = 0; i < c->steps; i++) {
		const struct monitor_step *s = &m->steps[c->first_step + i];

		if (!read_number(m, address + s->offset, sizeof(u64), &address) || !address)
			return false;
		if (s->per_cpu)
			address += own;
	}
	*ret = address;
	return true;
}

static bool is_same_way(const struct monitor_cell *a, const struct monitor_cell *b)
{
	return a->start == b->start && a->cpu == b->cpu && a->first_step == b->first_step && a->steps == b->steps &&
	       (a->flags & MONITOR_PER_CPU) == (b->flags & MONITOR_PER_CPU);
}

static u64 sign_extend(u64 value, u32 size)
{
	u32 shift = 64 - 8 * size;

	return (u64)((s64)(value << shift) >> shift);
}

static bool read_cell(const struct monitor *m, const struct monitor_cell *c, struct trail *trail, u64 *ret)
{
	if (!trail->cell || !is_same_way(trail->cell, c)) {
		trail->cell = c;
		trail->found = follow(m, c, &trail->address);
	}
	if (!trail->found || !read_number(m, trail->address + c->offset, c->size, ret))
		return false;
	if (c->flags & MONITOR_SIGNED)
		*ret = sign_extend(*ret, c->size);
	return true;
}

/* A value is there when all of its cells are: an absent one takes its bit away. */
static void read_cells(struct monitor *m, u64 *values, u8 *present)
{
	struct trail trail = { 0 };

	memset(values, 0, m->program.values * sizeof(*values));
	memcpy(present, m->covered, present_size(&m->program));
	for (u32 i = 0; i < m->cell_count; i++) {
		const struct monitor_cell *c = &m->cells[i];
		u64 value;

		if (read_cell(m, c, &trail, &value))
			values[c->value] += value;
		else
			present[c->value / 8] &= (u8)(0xff ^ 1u << c->value % 8);
	}
}

/* Sums that lack a part say nothing. */
static void clear_absent(u32 count, u64 *values, const u8 *present)
{
	for (u32 i = 0; i < count; i++)
		if (!(present[i / 8] & 1u << i % 8))
			values[i] = 0;
}

static void keep(struct monitor *m)
{
	pthread_mutex_lock(&m->lock);

	struct monitor_counts *c = &m->counts;

	m->scratch->number = c->taken;
	memcpy(m->ring + c->taken % m->capacity * m->sample_size, m->scratch, m->sample_size);
	c->taken++;
	if (c->taken > m->capacity)
		c->dropped++;
	if (m->scratch->spent_ns > c->spent_max_ns)
		c->spent_max_ns = m->scratch->spent_ns;
	pthread_mutex_unlock(&m->lock);
}

static void count_one(struct monitor *m, u64 *counter)
{
	pthread_mutex_lock(&m->lock);
	++*counter;
	pthread_mutex_unlock(&m->lock);
}

void monitor_take(struct monitor *m, u64 elapsed_ns, u32 epoch, const struct monitor_cpu *cpus)
{
	struct monitor_sample *s = m->scratch;
	struct monitor_cpu *own = (struct monitor_cpu *)(s + 1);
	u64 *values = (u64 *)(own + m->program.cpus);
	u8 *present = (u8 *)(values + m->program.values);

	s->host_ns = clock_now_ns();
	s->elapsed_ns = elapsed_ns;
	s->epoch = epoch;
	if (!read_offsets(m)) {
		count_one(m, &m->counts.early);
		return;
	}
	memcpy(own, cpus, m->program.cpus * sizeof(*cpus));
	read_cells(m, values, present);
	clear_absent(m->program.values, values, present);

	u64 spent = clock_now_ns() - s->host_ns;

	s->spent_ns = spent < UINT32_MAX ? (u32)spent : UINT32_MAX;
	keep(m);
}

void monitor_skip_frozen(struct monitor *m)
{
	count_one(m, &m->counts.frozen);
}

/* --- the ring --- */

u32 monitor_cpus(const struct monitor *m)
{
	return m->program.cpus;
}

size_t monitor_sample_size(const struct monitor *m)
{
	return m->sample_size;
}

u32 monitor_copy(struct monitor *m, u64 from, void *data, size_t size)
{
	u8 *to = data;
	u32 copied = 0;

	pthread_mutex_lock(&m->lock);
	if (from < m->counts.dropped)
		from = m->counts.dropped;
	for (; from < m->counts.taken && size >= m->sample_size; from++, copied++) {
		memcpy(to, m->ring + from % m->capacity * m->sample_size, m->sample_size);
		to += m->sample_size;
		size -= m->sample_size;
	}
	pthread_mutex_unlock(&m->lock);
	return copied;
}

struct monitor_counts monitor_counts(struct monitor *m)
{
	pthread_mutex_lock(&m->lock);

	struct monitor_counts ret = m->counts;

	pthread_mutex_unlock(&m->lock);
	return ret;
}
