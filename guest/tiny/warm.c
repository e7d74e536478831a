// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/warm.h"

#include "tiny/cpu.h"
#include "tiny/op.h"
#include "tiny/print.h"
#include "tiny/report.h"
#include "tiny/trap.h"

enum {
	START_SECONDS = 60,
	TICK_MS = 10,
};

_Static_assert(sizeof(struct ticks) <= TINY_COUNTER_STRIDE, "a CPU's clock fits in its cell");

static struct {
	struct cpus *cpus;
	enum warm_clock clock;
	u32 ms;
	volatile u32 ticking; /* CPUs, but for the boot CPU */
	u64 file_size;
} warm;

static struct ticks *ticks_of(u32 index)
{
	return (struct ticks *)(u64)(TINY_COUNTERS_GPA + index * TINY_COUNTER_STRIDE);
}

static void start_ticks(u32 index)
{
	if (warm.clock == WARM_PERIODIC)
		ticks_start(ticks_of(index), warm.ms);
	else
		ticks_start_by_deadline(ticks_of(index), (u64)tsc_khz() * warm.ms);
}

static void say_and_tick(u32 index)
{
	start_ticks(index);
	__atomic_fetch_add(&warm.ticking, 1, __ATOMIC_SEQ_CST);
	apic_send_wake(warm.cpus->cpu[0].apic_id);
	for (;;)
		wait_for_interrupt();
}

static void write_file(const struct op *op)
{
	struct wire_write head;
	size_t at = sizeof(head), n;

	if (op->length < sizeof(head)) {
		op_fail(op, ERRNO_INVAL);
		return;
	}
	memcpy(&head, op->body, sizeof(head));
	at += head.path_length;
	if (at > op->length) {
		op_fail(op, ERRNO_INVAL);
		return;
	}
	n = op->length - at;
	if (head.offset > TINY_WARM_SIZE || n > TINY_WARM_SIZE - head.offset) {
		op_fail(op, ERRNO_FBIG);
		return;
	}
	if (head.flags & WRITE_TRUNCATE)
		warm.file_size = 0;
	memcpy((u8 *)(u64)TINY_WARM_GPA + head.offset, op->body + at, n);
	if (warm.file_size < head.offset + n)
		warm.file_size = head.offset + n;
	op_reply(op, NULL, 0);
}

/* Answers with what of a file of size bytes was asked for. */
static void reply_part(const struct op *op, const void *file, u64 size)
{
	u64 offset = op_number(op, ATTR_OFFSET, 0), n = op_number(op, ATTR_LENGTH, size);

	if (offset > size)
		offset = size;
	if (n > size - offset)
		n = size - offset;
	if (n > OP_REPLY_DATA_MAX)
		op_fail(op, ERRNO_INVAL);
	else
		op_reply(op, (const u8 *)file + offset, n);
}

static void reply_counters(const struct op *op)
{
	u64 counts[TINY_CPUS_MAX];

	for (u32 i = 0; i < warm.cpus->up; i++)
		counts[i] = ticks_of(i)->count;
	reply_part(op, counts, warm.cpus->up * sizeof(u64));
}

static bool names(const struct attr *path, const char *name)
{
	return path->length == strlen(name) && !memcmp(path->value, name, path->length);
}

static void read_file(const struct op *op)
{
	const u64 time[] = { tsc_read(), tsc_khz() };
	struct attr path;

	if (!op_attr(op, ATTR_PATH, &path))
		op_fail(op, ERRNO_INVAL);
	else if (names(&path, "/memory"))
		reply_part(op, (const void *)(u64)TINY_WARM_GPA, warm.file_size);
	else if (names(&path, "/counters"))
		reply_counters(op);
	else if (names(&path, "/tsc"))
		reply_part(op, time, sizeof(time));
	else
		op_fail(op, ERRNO_NOENT);
}

static void serve(const struct op *op)
{
	if (op->op == OP_WRITE)
		write_file(op);
	else if (op->op == OP_READ)
		read_file(op);
	else if (!op_answer_common(op))
		op_fail(op, ERRNO_NOSYS);
}

void warm_run(struct cpus *cpus, u64 rsdp, enum warm_clock clock, u32 ms)
{
	warm.cpus = cpus;
	warm.clock = clock;
	warm.ms = ms ? ms : TICK_MS;
	if (clock == WARM_DEADLINE && (!timer_has_deadline() || !tsc_khz())) {
		console_print("tiny: the TSC makes no deadlines\n");
		machine_reset();
	}
	if (!cpus_start(cpus, rsdp, START_SECONDS))
		machine_reset();
	cpus_run(cpus, say_and_tick);
	while (warm.ticking < cpus->up - 1)
		wait_for_interrupt();
	start_ticks(0);
	report_at_work();
	for (;;) {
		struct op op = op_receive();

		serve(&op);
		interrupts_take();
	}
}
