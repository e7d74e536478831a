// SPDX-License-Identifier: GPL-2.0-or-later
#include "freeze/clocks.h"

#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include "base/clock.h"
#include "base/log.h"

struct error *clocks_init(struct clocks *c, const struct vm *vm, u32 khz, u32 count)
{
	*c = (struct clocks){ .vm = vm, .khz = khz, .count = count, .inexact = !khz };
	c->offsets = calloc(count, sizeof(*c->offsets));
	return c->offsets ? NULL : error_no_memory();
}

void clocks_deinit(struct clocks *c)
{
	free(c->offsets);
	c->offsets = NULL;
}

bool clocks_are_exact(const struct clocks *c)
{
	return !c->inexact;
}

u64 clocks_tsc_lag(struct clock_pair then, struct clock_pair now, u32 khz)
{
	// Signed: a clock that could not be set back has advanced, one that was set to less has gone back.
	__int128 scaled = (__int128)(s64)(now.ns - then.ns) * khz;
	s64 cycles = (s64)((scaled + (scaled < 0 ? -500000 : 500000)) / 1000000);

	return now.tsc - then.tsc - (u64)cycles;
}

/* Whether it went well. What went wrong costs exactness, and never the freeze. */
static bool went_well(struct clocks *c, struct error *err)
{
	if (!err)
		return true;
	c->inexact = true;
	log_line("clocks: %s", error_message(err));
	error_destroy(err);
	return false;
}

/*
 * KVM tells the host's TSC of the very instant where it has a master clock (Linux 5.16). Elsewhere it is read
 * before and after; the narrowest of a few tries, since the host may run something else in between.
 */
static struct error *read_pair(const struct vm *vm, struct clock_pair *ret)
{
	u64 narrowest = UINT64_MAX;

	for (int tries = 0; tries < 3; tries++) {
		struct kvm_clock_data data;
		u64 before = __rdtsc();
		struct error *err = vm_get_clock(vm, &data);
		u64 width = __rdtsc() - before;

		if (err)
			return err;
		if (data.flags & KVM_CLOCK_HOST_TSC) {
			*ret = (struct clock_pair){ .ns = data.clock, .tsc = data.host_tsc };
			return NULL;
		}
		if (!tries || width < narrowest) {
			*ret = (struct clock_pair){ .ns = data.clock, .tsc = before + width / 2 };
			narrowest = width;
		}
	}
	return NULL;
}

void clocks_stop(struct clocks *c, const struct vcpu *(*vcpu)(void *ctx, u32 index), void *ctx)
{
	struct clock_pair pair;

	// First of all: what passes until here the guest sees, what passes from here it does not.
	c->stopped = went_well(c, read_pair(c->vm, &pair));
	c->stopped_ns = clock_now_ns();
	if (!c->stopped)
		return;
	c->clock_ns = pair.ns;
	c->host_tsc = pair.tsc;
	for (u32 i = 0; i < c->count && !c->no_offsets; i++)
		c->untold = c->no_offsets = !went_well(c, vcpu_get_tsc_offset(vcpu(ctx, i), &c->offsets[i]));
}

/* A paravirtual KVM takes an offset and does nothing with it. */
static void try_offset(struct clocks *c, const struct vcpu *vcpu, u64 offset)
{
	u64 found;

	if (!went_well(c, vcpu_set_tsc_offset(vcpu, offset)) || !went_well(c, vcpu_get_tsc_offset(vcpu, &found))) {
		c->no_offsets = true;
	} else if (found != offset) {
		log_line("clocks: this KVM does not heed a TSC offset");
		c->inexact = c->no_offsets = true;
	}
	c->offsets_work = !c->no_offsets;
}

/*
 * All by the same amount, and all before any vCPU runs: vCPUs with one offset must not differ for a moment, or
 * the guest sees its TSCs disagree and KVM gives up its master clock.
 */
static void lower_offsets(struct clocks *c, u64 lag, const struct vcpu *(*vcpu)(void *ctx, u32 index), void *ctx)
{
	for (u32 i = 0; lag && i < c->count && !c->no_offsets; i++) {
		u64 offset = c->offsets[i] - lag;

		if (c->offsets_work)
			went_well(c, vcpu_set_tsc_offset(vcpu(ctx, i), offset));
		else
			try_offset(c, vcpu(ctx, i), offset);
	}
}

/*
 * The kvmclock is set back first, the TSC follows it. Some microseconds pass between setting the clock and the
 * last offset; were they left to chance, thousands of freezes would add them up to a difference that the
 * guest's clocksource watchdog reports. So the clock is read again, and the TSC is given what it shows.
 */
void clocks_go(struct clocks *c, const struct vcpu *(*vcpu)(void *ctx, u32 index), void *ctx)
{
	struct clock_pair now, then = { .ns = c->clock_ns, .tsc = c->host_tsc };

	if (!c->stopped)
		return;
	c->stopped = false;
	went_well(c, vm_set_clock(c->vm, then.ns));
	if (went_well(c, read_pair(c->vm, &now)))
		lower_offsets(c, clocks_tsc_lag(then, now, c->khz), vcpu, ctx);
}

/* --- in a saved machine --- */

/* By so much may a TSC's rate differ that is the same by its maker's word: it is measured anew at each start. */
enum { RATE_TOLERANCE_PPM = 250 };

struct error *clocks_save(const struct clocks *c, struct buf *out)
{
	if (!c->stopped || c->untold)
		return error_with_hint(error_create(ERROR_UNSUPPORTED, "this KVM does not tell the guest's time"),
				       "saving a machine needs Linux 5.16 on the host");
	buf_put_u32(out, c->khz);
	buf_put_u32(out, c->count);
	buf_put_u64(out, c->clock_ns);
	for (u32 i = 0; i < c->count; i++)
		buf_put_u64(out, c->host_tsc + c->offsets[i]);
	return NULL;
}

static bool is_same_rate(u32 a, u32 b)
{
	u64 difference = a > b ? a - b : b - a;

	return difference * 1000000 <= (u64)b * RATE_TOLERANCE_PPM;
}

struct error *clocks_load(struct clocks *c, struct reader *in)
{
	u32 khz = reader_get_u32(in);
	u32 count = reader_get_u32(in);
	u64 clock_ns = reader_get_u64(in);
	const u8 *tsc = reader_take(in, (size_t)count * sizeof(u64));

	if (!tsc || count != c->count)
		return error_create(ERROR_FORMAT, "saved clocks are not those of %u vCPUs", c->count);
	if (!is_same_rate(khz, c->khz))
		return error_create(ERROR_UNSUPPORTED, "the TSC of the saved machine ran at %u kHz, this host's at %u",
				    khz, c->khz);
	c->clock_ns = clock_ns;
	c->host_tsc = __rdtsc();
	c->stopped_ns = 0;
	c->stopped = true;
	for (u32 i = 0; i < count; i++) {
		u64 value;

		memcpy(&value, tsc + i * sizeof(value), sizeof(value));
		c->offsets[i] = value - c->host_tsc;
	}
	return NULL;
}

void timer_note_save(const struct timer_note *note, struct buf *out)
{
	buf_put_u64(out, note->deadline);
	buf_put_u32(out, note->count);
}

void timer_note_load(struct timer_note *note, struct reader *in)
{
	note->deadline = reader_get_u64(in);
	note->count = reader_get_u32(in);
}

enum {
	MSR_TSC_DEADLINE = 0x6e0,
	LAPIC_TIMER = 0x320,
	LAPIC_TIMER_CURRENT = 0x390,
};

/* Bits of LAPIC_TIMER. */
#define TIMER_MODE (3U << 17)
#define TIMER_MODE_DEADLINE (2U << 17)

static u32 lapic_get(const struct kvm_lapic_state *lapic, u32 reg)
{
	u32 value;

	memcpy(&value, lapic->regs + reg, sizeof(value));
	return value;
}

/* A timer that cannot be noted is one that this KVM, or a machine without local APICs, does not have. */
static bool is_there(struct error *err)
{
	bool there = !err;

	error_destroy(err);
	return there;
}

static void must_work(struct error *err)
{
	if (err)
		log_line("timer: %s", error_message(err));
	error_destroy(err);
}

static u64 read_deadline(const struct vcpu *vcpu)
{
	struct kvm_msr_entry msr = { .index = MSR_TSC_DEADLINE };

	return is_there(vcpu_get_msrs(vcpu, &msr, 1)) ? msr.data : 0;
}

void timer_disarm(const struct vcpu *vcpu)
{
	struct kvm_msr_entry msr = { .index = MSR_TSC_DEADLINE };

	// A KVM without such a timer has none to forget.
	error_destroy(vcpu_set_msrs(vcpu, &msr, 1));
}

/* One call to KVM as a rule, and most of what a freeze costs a vCPU: the mode of last time is tried first. */
void timer_note(const struct vcpu *vcpu, struct timer_note *note)
{
	struct kvm_lapic_state lapic;

	if (note->deadline)
		note->deadline = read_deadline(vcpu);
	note->count = 0;
	if (note->deadline || !is_there(vcpu_get_lapic(vcpu, &lapic)))
		return;
	if ((lapic_get(&lapic, LAPIC_TIMER) & TIMER_MODE) == TIMER_MODE_DEADLINE)
		note->deadline = read_deadline(vcpu);
	else
		note->count = lapic_get(&lapic, LAPIC_TIMER_CURRENT);
}

/*
 * Read afresh, since an interrupt may have come in after the note. Setting it also takes back an expiry that
 * KVM has seen during the freeze and not delivered yet. A periodic tick that came due between the last
 * KVM_RUN and the note goes with it: KVM tells nobody of such.
 */
void timer_rewind(const struct vcpu *vcpu, const struct timer_note *note)
{
	struct kvm_lapic_state lapic;
	struct error *err;

	if (!note->count)
		return;
	err = vcpu_get_lapic(vcpu, &lapic);
	if (!err) {
		memcpy(lapic.regs + LAPIC_TIMER_CURRENT, &note->count, sizeof(note->count));
		err = vcpu_set_lapic(vcpu, &lapic);
	}
	must_work(err);
}

void timer_resume(const struct vcpu *vcpu, const struct timer_note *note, bool long_freeze)
{
	/*
	 * KVM counts a deadline down in host time, which went on: it expired early, or would. Writing it
	 * again takes such an expiry back and starts the timer by the TSC as it is now. One that had passed
	 * before the freeze is found passed again, and delivered.
	 */
	if (note->deadline) {
		struct kvm_msr_entry msr = { .index = MSR_TSC_DEADLINE, .data = note->deadline };

		must_work(vcpu_set_msrs(vcpu, &msr, 1));
	}
	/*
	 * The guest's soft-lockup and RCU-stall detectors forgive everything since they last looked. That is
	 * for the rest that clocks cannot hide; told at every short capture, they would never report.
	 */
	if (long_freeze)
		must_work(vcpu_tell_stopped(vcpu));
}
