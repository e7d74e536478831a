// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The scenarios. Words of the command line, `tiny.run=NAME` or `tiny.run=NAME=NUMBER`, run in order; most
 * end the machine. After the last one the guest resets.
 */
#include <asm/bootparam.h>

#include "tiny/alarm.h"
#include "tiny/capture.h"
#include "tiny/console.h"
#include "tiny/cpu.h"
#include "tiny/hostile.h"
#include "tiny/io.h"
#include "tiny/kernel_op.h"
#include "tiny/load.h"
#include "tiny/op.h"
#include "tiny/print.h"
#include "tiny/report.h"
#include "tiny/smp.h"
#include "tiny/tiny.h"
#include "tiny/trap.h"
#include "tiny/warm.h"
#include "tiny/watch.h"
#include "tlv/codec.h"
#include "tlv/crc32.h"

enum { CPUS_TIMEOUT_SECONDS = 60 };

/* A vmlinux says its release this way. */
__attribute__((used)) static const char banner[] = "Linux version 0.1.0-tiny (ktstr) #1 SMP\n";

static u64 rsdp;

static struct cpus cpus;

static void run_exit(s64 code)
{
	report_ready();
	report_exit((s32)code);
	machine_reset();
}

static void run_report(s64 code)
{
	report_ready();
	report_exit((s32)code);
}

static void run_ready(s64 number)
{
	report_at_work();
}

static void run_poweroff(s64 number)
{
	machine_power_off();
}

static void run_reset(s64 number)
{
	machine_reset();
}

static void run_hang(s64 number)
{
	halt_for_ever();
}

static void run_spin(s64 number)
{
	for (;;)
		barrier();
}

static void run_triple(s64 number)
{
	machine_triple_fault();
}

static void run_panic(s64 number)
{
	static const char text[] = "Kernel panic - not syncing: tiny.run=panic\n"
				   "CPU: 0 PID: 1 Comm: tiny Not tainted 0.1.0-tiny #1\n"
				   "Call Trace:\n"
				   " run_panic+0x0/0x20\n"
				   "---[ end Kernel panic - not syncing: tiny.run=panic ]---\n";

	console_print(text);
	last_words_print(text);
	machine_reset();
}

static void run_fail(s64 number)
{
	static const char *const lines[] = {
		"BUG: kernel NULL pointer dereference, address: 0000000000000008\nOops: 0002 [#1] PREEMPT SMP\n",
		"watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [tiny:1]\n",
		"INFO: task tiny:1 blocked for more than 120 seconds.\n",
	};

	console_print(lines[(u64)number % ARRAY_SIZE(lines)]);
}

static void run_sentinel(s64 code)
{
	char buffer[40];
	struct text t = { .data = buffer, .capacity = sizeof(buffer) - 1 };

	text_put(&t, "KTSTR_EXIT:");
	text_put_number(&t, code);
	text_put(&t, "\n");
	buffer[t.size] = '\0';
	last_words_print(buffer);
	machine_reset();
}

/* A whole, good EXIT frame, to be spoilt. */
struct exit_frame {
	struct wire_header header;
	struct wire_exit message;
};

static struct exit_frame make_exit_frame(u32 type)
{
	struct exit_frame f = { .message.code = 0 };

	frame_seal(&f, type, sizeof(f.message));
	return f;
}

static void run_badcrc(s64 number)
{
	struct exit_frame f = make_exit_frame(MSG_EXIT);

	f.message.code ^= 1;
	console_send_raw(&f, sizeof(f));
	f = make_exit_frame(MSG_EXIT);
	f.header.header_crc ^= 1;
	console_send_raw(&f, sizeof(f));
	console_flush();
}

/* CRCs that fit, lengths that cannot be. */
static void run_badlength(s64 number)
{
	static const u32 lengths[] = { WIRE_PAYLOAD_MAX + 1, 0x7fffffff, 0xffffffff };

	for (u32 i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct exit_frame f = make_exit_frame(MSG_EXIT);

		frame_seal(&f, MSG_EXIT, sizeof(f.message));
		f.header.length = lengths[i];
		f.header.header_crc = crc32_ieee(0, &f.header, offsetof(struct wire_header, header_crc));
		console_send_raw(&f, sizeof(f));
	}
	console_flush();
}

static void run_unknown(s64 number)
{
	struct exit_frame f = make_exit_frame(0x58585858);

	console_send_raw(&f, sizeof(f));
	console_flush();
}

static void run_garbage(s64 number)
{
	u8 buffer[1024];
	u32 noise = 12345;

	for (u32 round = 0; round < 8; round++) {
		for (u32 i = 0; i < sizeof(buffer); i++) {
			noise = noise * 1664525 + 1013904223;
			buffer[i] = (u8)(noise >> 24);
		}
		// An odd length, so that a good frame behind it is at no round offset.
		console_send_raw(buffer, sizeof(buffer) - 1);
	}
	console_flush();
}

static void run_garbage_then_exit(s64 code)
{
	struct exit_frame f = make_exit_frame(MSG_EXIT);

	run_garbage(0);
	console_send_raw(&f, sizeof(f.header) - 3); // a header that never ends
	report_exit((s32)code);
	machine_reset();
}

static bool start_cpus(void)
{
	return cpus_start(&cpus, rsdp, CPUS_TIMEOUT_SECONDS);
}

/* "apic 3 cpuid 3" for each CPU, in the order they came up, then "cpus 8 of 8". */
static void run_cpus(s64 number)
{
	static struct report report;
	struct text t = report_text(&report);
	bool all = start_cpus();

	report_ready();
	for (u32 i = 0; i < TINY_CPUS_MAX; i++) {
		if (!cpus.cpu[i].up)
			continue;
		text_put(&t, "apic ");
		text_put_number(&t, cpus.cpu[i].apic_id);
		text_put(&t, " cpuid ");
		text_put_number(&t, cpus.cpu[i].cpuid_id);
		text_put(&t, "\n");
		if (t.size > t.capacity - 100)
			report_output(&report, &t);
	}
	text_put(&t, "cpus ");
	text_put_number(&t, cpus.up);
	text_put(&t, " of ");
	text_put_number(&t, cpus.listed);
	text_put(&t, "\n");
	report_output(&report, &t);
	report_exit(all ? 0 : 1);
	machine_reset();
}

/* One frame, made once: a CRC takes longer than the host takes to read it. */
static void run_flood(s64 number)
{
	static struct {
		struct wire_header header;
		struct report report;
	} frame;
	struct text t = report_text(&frame.report);

	report_ready();
	while (t.size < t.capacity - 80)
		text_put(&t, "flood, flood, flood, flood, flood, flood, flood, flood, flood, flood\n");

	u32 size = (u32)frame_seal(&frame, MSG_STDOUT, (u32)(sizeof(frame.report.head) + t.size));

	for (;;)
		console_send_in_place(&frame, size);
}

static void run_echo(s64 number)
{
	report_ready();
	for (;;) {
		struct op op = op_receive();

		if (!op_answer_common(&op))
			op_fail(&op, ERRNO_NOSYS);
	}
}

static void run_warm(s64 ms)
{
	warm_run(&cpus, rsdp, WARM_DEADLINE, (u32)ms);
}

static void run_warm_periodic(s64 ms)
{
	warm_run(&cpus, rsdp, WARM_PERIODIC, (u32)ms);
}

static void run_watch(s64 number)
{
	watch_run(&cpus, rsdp);
}

/* SYS_RDY, where there is a console, comes when every CPU is there and about to count. */
static void run_count(s64 number)
{
	if (!start_cpus())
		machine_reset();
	cpus_run(&cpus, load_count);
	if (console_open())
		report_at_work();
	load_count(0);
}

static void run_unstarted(s64 number)
{
	report_at_work();
	load_count(0);
}

static void run_load(s64 kind)
{
	load_run(&cpus, rsdp, (enum load_kind)kind);
}

static void run_copy(s64 number)
{
	report_at_work();
	load_copy();
}

static void run_io(s64 number)
{
	report_at_work();
	io_run();
}

static void run_timer(s64 ms)
{
	report_exit(alarm_by_count((u32)ms) ? 0 : 1);
	machine_reset();
}

static void run_deadline(s64 ms)
{
	report_exit(alarm_by_deadline((u32)ms) ? 0 : 1);
	machine_reset();
}

static void run_capture(s64 number)
{
	report_ready();
	report_exit(capture_one_by_one((u32)number) ? 0 : 1);
}

static void run_capture_burst(s64 number)
{
	report_ready();
	report_exit(capture_burst((u32)number) ? 0 : 1);
}

static void run_capture_bad(s64 number)
{
	report_ready();
	report_exit(capture_bad() ? 0 : 1);
}

static void run_scenario(s64 number)
{
	static const u32 types[] = { MSG_SCENARIO_START, MSG_SCENARIO_PAUSE, MSG_SCENARIO_RESUME, MSG_SCENARIO_END };

	console_send(types[(u64)number % ARRAY_SIZE(types)], NULL, 0);
}

static void run_kernel_op(s64 number)
{
	report_ready();
	report_exit(kernel_op_one_by_one((u32)number) ? 0 : 1);
}

static void run_kernel_op_burst(s64 number)
{
	report_ready();
	report_exit(kernel_op_burst((u32)number) ? 0 : 1);
}

static void run_kernel_op_bad(s64 number)
{
	report_ready();
	report_exit(kernel_op_bad() ? 0 : 1);
}

static void run_triple_elsewhere(s64 number)
{
	if (start_cpus())
		hostile_triple_fault_elsewhere(&cpus);
}

static void run_end_everywhere(s64 number)
{
	if (start_cpus())
		hostile_end_everywhere(&cpus);
}

static void run_shout(s64 number)
{
	hostile_shout();
}

static void run_hammer(s64 number)
{
	report_at_work();
	hostile_hammer_vectors();
}

static const struct scenario {
	const char *name;
	void (*run)(s64 number);
	bool console; /* it speaks on port 1 */
} scenarios[] = {
	{ "exit", run_exit, true }, /* SYS_RDY, EXIT number, reset */
	{ "report", run_report, true }, /* SYS_RDY, EXIT number; the next word goes on */
	{ "ready", run_ready, true }, /* SYS_RDY; the next word goes on */
	{ "poweroff", run_poweroff, false }, /* without reporting */
	{ "reset", run_reset, false }, /* without reporting */
	{ "first", run_reset, false }, /* nothing but the byte that every start writes */
	{ "hang", run_hang, false }, /* halted, interrupts off */
	{ "spin", run_spin, false },
	{ "triple", run_triple, false }, /* triple fault */
	{ "panic", run_panic, false }, /* a panic's text on COM1 and COM2, reset */
	{ "fail", run_fail, false }, /* says on COM1 that there was an oops (0), a soft lockup, a hung task; goes on */
	{ "sentinel", run_sentinel, false }, /* KTSTR_EXIT:number on COM2 alone, reset */
	{ "badcrc", run_badcrc, true }, /* frames with a wrong CRC each; the next word goes on */
	{ "badlength", run_badlength, true }, /* impossible lengths; goes on */
	{ "unknown", run_unknown, true }, /* an unknown type; goes on */
	{ "garbage", run_garbage, true }, /* 8 KiB of noise; goes on */
	{ "garbage-then-exit", run_garbage_then_exit, true }, /* noise, half a header, EXIT number, reset */
	{ "cpus", run_cpus, true }, /* every CPU's ids on STDOUT, EXIT 0, or 1 when one is missing; reset */
	{ "flood", run_flood, true }, /* STDOUT without end */
	{ "echo", run_echo, true }, /* answers what op_answer_common() does */
	{ "warm", run_warm, true }, /* to be saved: ticks by deadlines every number ms, requests answered (warm.h) */
	{ "warm-periodic", run_warm_periodic, true }, /* the same, ticks by the APIC's own count */
	{ "watch", run_watch, true }, /* writes to pages that are watched, on request (watch.h) */
	{ "triple-elsewhere", run_triple_elsewhere, false }, /* triple fault on the last CPU */
	{ "end-everywhere", run_end_everywhere, false }, /* every CPU resets or powers off */
	{ "shout", run_shout, false }, /* text on COM1 and COM2 without end */
	{ "hammer", run_hammer, true }, /* the virtio-console's MSI-X table changes all the time */
	{ "count", run_count, false }, /* every CPU counts in memory, for ever */
	{ "unstarted", run_unstarted, true }, /* the boot CPU counts; the others wait for their start */
	{ "load", run_load, true }, /* every CPU at work, 0: counting in kernel mode, 1: in user mode, 2: halted, woken
				     * by a timer, 3: mixed by number, 4: halted for good; for ever (load.h) */
	{ "copy", run_copy, true }, /* long copies to devices by single instructions, for ever */
	{ "io", run_io, true }, /* port and MMIO accesses, each value exact, for ever (io_loop.S) */
	{ "timer", run_timer, true }, /* how long a timer of number ms took by the TSC: STDOUT, EXIT 0, reset */
	{ "deadline", run_deadline, true }, /* the same for a TSC deadline; EXIT 1 where there is none */
	{ "capture", run_capture, true }, /* number requests, one by one (capture.h), EXIT 0 or 1; goes on */
	{ "capture-burst", run_capture_burst, true }, /* the same, all sent at once; goes on */
	{ "scenario", run_scenario, true }, /* a workload 0: starts, 1: pauses, 2: goes on, 3: ends; says so, goes on */
	{ "kernel-op", run_kernel_op, true }, /* number requests, one by one (kernel_op.h), EXIT 0 or 1; goes on */
	{ "kernel-op-burst", run_kernel_op_burst, true }, /* the same, all sent at once; goes on */
	{ "kernel-op-bad", run_kernel_op_bad, true }, /* bad requests, EXIT 0 or 1; goes on */
	{ "capture-bad", run_capture_bad, true }, /* bad requests, each one's fate on STDOUT, EXIT 0 or 1; goes on */
};

/* The number behind '='; 0 when there is none. */
static s64 parse_number(const char *s, const char *end)
{
	bool negative = s < end && *s == '-';
	s64 v = 0;

	for (s += negative; s < end && *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (*s - '0');
	return negative ? -v : v;
}

static void run_word(const char *word, const char *end)
{
	const char *equals = word;

	while (equals < end && *equals != '=')
		equals++;
	for (u32 i = 0; i < ARRAY_SIZE(scenarios); i++) {
		const struct scenario *s = &scenarios[i];

		if (strlen(s->name) != (size_t)(equals - word) || memcmp(s->name, word, strlen(s->name)) != 0)
			continue;
		if (s->console && !console_open()) {
			console_print("tiny: no virtio-console that can be used\n");
			machine_reset();
		}
		s->run(equals < end ? parse_number(equals + 1, end) : 0);
		return;
	}
	console_print("tiny: unknown scenario: ");
	console_write(word, (size_t)(end - word));
	console_print("\n");
	machine_reset();
}

/* The words after `tiny.run=`, from *at on; false at the end. */
static bool next_word(const char **at, const char **word, const char **end)
{
	static const char prefix[] = "tiny.run=";
	const char *s = *at;

	while (*s) {
		while (*s == ' ')
			s++;

		const char *start = s;

		while (*s && *s != ' ')
			s++;
		if (s - start > (s64)sizeof(prefix) - 1 && memcmp(start, prefix, sizeof(prefix) - 1) == 0) {
			*at = s;
			*word = start + sizeof(prefix) - 1;
			*end = s;
			return true;
		}
	}
	return false;
}

__attribute__((noreturn)) void tiny_main(const struct boot_params *boot); /* from entry.S */

void tiny_main(const struct boot_params *boot)
{
	const char *at = (const char *)((u64)boot->ext_cmd_line_ptr << 32 | boot->hdr.cmd_line_ptr);
	const char *word, *end;

	rsdp = boot->acpi_rsdp_addr;
	traps_init();
	traps_enable(false);
	console_print("tiny: up\n");
	while (at && next_word(&at, &word, &end))
		run_word(word, end);
	machine_reset();
}
