// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <x86intrin.h>

#include <cmocka.h>

#include "base/clock.h"
#include "core/kvm_fixture.h"
#include "freeze/clocks.h"
#include "kvm/probe.h"

enum {
	SAMPLE_GPA = 0x2000,
	PVCLOCK_GPA = 0x3000,
	PVCLOCK_FLAGS = 29, /* offset of the flags in the structure that KVM fills in */
	PVCLOCK_STOPPED = 2,

	MSR_DEADLINE = 0x6e0,
	MSR_KVMCLOCK = 0x4b564d01,

	LAPIC_SPURIOUS = 0xf0,
	LAPIC_REQUESTED = 0x200, /* 256 bits, 32 in each 16 bytes */
	LAPIC_TIMER = 0x320,
	LAPIC_INITIAL = 0x380,
	LAPIC_CURRENT = 0x390,
	LAPIC_DIVIDE = 0x3e0,

	TIMER_VECTOR = 0x40,
	OTHER_VECTOR = 0x51,
};

enum timer_mode {
	ONE_SHOT = 0 << 17,
	PERIODIC = 1 << 17,
	DEADLINE = 2 << 17,
};

/* rdtsc; mov [0x2000], eax; mov [0x2004], edx; out 0x12, al; jmp to the rdtsc */
static const u8 read_tsc[] = {
	0x0f,
	0x31,
	0x66,
	0xa3,
	0x00,
	0x20,
	0x66,
	0x89,
	0x16,
	0x04,
	0x20,
	0xe6,
	0x12,
	0xeb,
	0xf1,
};

/* A machine of two vCPUs, the second of which waits for its SIPI. */
struct machine {
	struct fixture f;
	struct vcpu second;
	struct clocks clocks;
	struct timer_note timers[2];
	u32 khz;
	bool has_offsets; /* its KVM heeds a TSC offset */
};

static const struct vcpu *vcpu_of(void *ctx, u32 index)
{
	struct machine *m = ctx;

	return index ? &m->second : &m->f.vcpu;
}

static void allow_deadline_timer(struct machine *m)
{
	struct kvm_cpuid2 *cpuid;

	assert_no_error(kvm_supported_cpuid(&m->f.kvm, 0, &cpuid));
	cpuid_find(cpuid, 1, 0)->ecx |= 1 << 24;
	assert_no_error(vcpu_set_cpuid(&m->f.vcpu, cpuid));
	assert_no_error(vcpu_set_cpuid(&m->second, cpuid));
	free(cpuid);
}

static void machine_init(struct machine *m, enum vm_irqchip irqchip)
{
	struct probe probe;
	u64 offset;

	memset(m, 0, sizeof(*m));
	probe_run(&probe, KVM_DEVICE);
	fixture_init(&m->f, irqchip, read_tsc, sizeof(read_tsc));
	assert_no_error(vcpu_init(&m->second, &m->f.vm, 1));
	allow_deadline_timer(m);
	assert_no_error(vcpu_get_tsc_khz(&m->f.vcpu, &m->khz));
	assert_no_error(clocks_init(&m->clocks, &m->f.vm, m->khz, 2));

	struct error *err = vcpu_get_tsc_offset(&m->f.vcpu, &offset);

	m->has_offsets = !err && !probe.paravirtual;
	error_destroy(err);
}

static void machine_deinit(struct machine *m)
{
	assert_true(clocks_are_exact(&m->clocks) == m->has_offsets);
	clocks_deinit(&m->clocks);
	vcpu_deinit(&m->second);
	fixture_deinit(&m->f);
}

/* Lets the guest read its TSC once more, and parks it. */
static u64 sample(struct machine *m)
{
	enum vcpu_run_result result;
	u64 tsc;

	assert_no_error(vcpu_run(&m->f.vcpu, &result));
	assert_int_equal(result, VCPU_EXIT);
	assert_int_equal(m->f.vcpu.run->exit_reason, KVM_EXIT_IO);
	memcpy(&tsc, m->f.memory.base + SAMPLE_GPA, sizeof(tsc));
	vcpu_request_exit(&m->f.vcpu);
	assert_no_error(vcpu_run(&m->f.vcpu, &result));
	assert_int_equal(result, VCPU_INTERRUPTED);
	vcpu_clear_exit(&m->f.vcpu);
	return tsc;
}

static void freeze(struct machine *m)
{
	for (u32 i = 0; i < 2; i++)
		timer_note(vcpu_of(m, i), &m->timers[i]);
	clocks_stop(&m->clocks, vcpu_of, m);
}

static void thaw(struct machine *m, bool long_freeze)
{
	clocks_go(&m->clocks, vcpu_of, m);
	for (u32 i = 0; i < 2; i++)
		timer_rewind(vcpu_of(m, i), &m->timers[i]);
	for (u32 i = 0; i < 2; i++)
		timer_resume(vcpu_of(m, i), &m->timers[i], long_freeze);
}

#define SKIP_WITHOUT_OFFSETS(m)                                                 \
	do {                                                                    \
		if (!(m)->has_offsets) {                                        \
			print_message("skipped: this KVM has no TSC offset\n"); \
			freeze(m);                                              \
			thaw(m, false);                                         \
			machine_deinit(m);                                      \
			skip();                                                 \
		}                                                               \
	} while (0)

/* This is no wait for anything: a freeze has to last before it can be hidden. */
static void stay_frozen(u64 ns)
{
	u64 end = clock_now_ns() + ns;

	while (clock_now_ns() < end)
		nanosleep(&(struct timespec){ .tv_nsec = NSEC_PER_MSEC }, NULL);
}

static u64 offset_of(const struct vcpu *vcpu)
{
	u64 offset;

	assert_no_error(vcpu_get_tsc_offset(vcpu, &offset));
	return offset;
}

static struct kvm_clock_data clock_of(struct machine *m)
{
	struct kvm_clock_data data;

	assert_no_error(vm_get_clock(&m->f.vm, &data));
	return data;
}

static u64 cycles(const struct machine *m, u64 us)
{
	return us * m->khz / 1000;
}

static void assert_lag(u64 tsc, u64 ns, u32 khz, u64 expected)
{
	// Wherever the two clocks stand, also where they wrap between the pairs.
	static const u64 starts[] = { 0, 1, 1ULL << 63, UINT64_MAX - 10, UINT64_MAX };

	for (u32 i = 0; i < ARRAY_SIZE(starts); i++)
		for (u32 j = 0; j < ARRAY_SIZE(starts); j++) {
			struct clock_pair then = { .ns = starts[i], .tsc = starts[j] };
			struct clock_pair now = { .ns = starts[i] + ns, .tsc = starts[j] + tsc };

			assert_int_equal(clocks_tsc_lag(then, now, khz), expected);
		}
}

static void the_tsc_lags_by_what_the_clock_did_not_advance(void **state)
{
	assert_lag(0, 0, 2600000, 0);
	assert_lag(5000, 0, 2600000, 5000); // the clock stood: all of it
	assert_lag(2600, 1000, 2600000, 0); // it went on: nothing
	assert_lag(1000000, 1000, 2600000, 1000000 - 2600);
	assert_lag(1ULL << 62, 0, 1, 1ULL << 62);
	assert_lag(0, 1000, 2600000, (u64)-2600); // the clock alone advanced: the TSC catches up
	assert_lag(2600, (u64)-1000, 2600000, 5200); // the clock was set back
	// A year at 5 GHz needs more than 64 bits in between.
	assert_lag(0, 31536000 * NSEC_PER_SEC, 5000000, -(31536000ULL * 5000000000));
	assert_lag(77, 1000, 0, 77); // no frequency is known: as if the clock stood
}

static void the_lag_is_rounded_to_the_nearest_cycle(void **state)
{
	assert_lag(10, 1, 400000, 10); // 0.4 cycles
	assert_lag(10, 1, 500000, 9); // 0.5
	assert_lag(10, 1, 600000, 9);
	assert_lag(10, 3, 2599985, 10 - 8); // 7.799955
	assert_lag(10, (u64)-1, 400000, 10);
	assert_lag(10, (u64)-1, 600000, 11);
}

/* No bound in time: what passed on the host outside of the freeze is all that the guest may have seen. */
static void a_guest_sees_no_freeze_on_its_tsc(void **state)
{
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	SKIP_WITHOUT_OFFSETS(&m);

	u64 start = __rdtsc();
	u64 before = sample(&m);

	freeze(&m);

	u64 frozen = __rdtsc();

	stay_frozen(500 * NSEC_PER_MSEC);
	frozen = __rdtsc() - frozen;
	thaw(&m, false);

	u64 after = sample(&m);
	u64 outside = __rdtsc() - start - frozen;

	print_message("frozen for %llu us, the guest saw %llu us\n", (unsigned long long)frozen * 1000 / m.khz,
		      (unsigned long long)(after - before) * 1000 / m.khz);
	assert_true(after > before);
	assert_true(after - before <= outside);
	machine_deinit(&m);
}

static void every_offset_is_lowered_by_the_same_amount(void **state)
{
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	SKIP_WITHOUT_OFFSETS(&m);
	sample(&m);
	// A guest may have set its TSCs apart: that is its own.
	assert_no_error(vcpu_set_tsc_offset(&m.second, offset_of(&m.f.vcpu) + 12345));

	u64 first = offset_of(&m.f.vcpu), start = __rdtsc();

	freeze(&m);

	u64 frozen = __rdtsc();

	stay_frozen(20 * NSEC_PER_MSEC);
	frozen = __rdtsc() - frozen;
	thaw(&m, false);

	u64 lowered = first - offset_of(&m.f.vcpu);

	assert_true(lowered >= frozen);
	assert_true(lowered <= __rdtsc() - start);
	assert_int_equal(offset_of(&m.second), first - lowered + 12345);
	machine_deinit(&m);
}

static void kvmclock_stands_still(void **state)
{
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	sample(&m);

	u64 before = clock_of(&m).clock, start = clock_now_ns();

	freeze(&m);

	u64 frozen = clock_now_ns();

	stay_frozen(200 * NSEC_PER_MSEC);
	frozen = clock_now_ns() - frozen;
	thaw(&m, false);

	u64 after = clock_of(&m).clock, outside = clock_now_ns() - start - frozen;

	assert_true(after >= before);
	// The host's monotonic clock is steered, kvmclock is not: they may differ by half a thousandth.
	assert_true(after - before <= outside + frozen / 2000);
	machine_deinit(&m);
}

static void letting_go_what_is_not_stopped_does_nothing(void **state)
{
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	sample(&m);
	freeze(&m);
	thaw(&m, false);

	u64 before = clock_of(&m).clock, offset = m.has_offsets ? offset_of(&m.f.vcpu) : 0;

	stay_frozen(20 * NSEC_PER_MSEC);
	clocks_go(&m.clocks, vcpu_of, &m);
	assert_true(clock_of(&m).clock - before >= 19 * NSEC_PER_MSEC);
	if (m.has_offsets)
		assert_int_equal(offset_of(&m.f.vcpu), offset);
	machine_deinit(&m);
}

/* By how many cycles the guest's TSC is ahead of its kvmclock since the first call. */
static s64 ahead(struct machine *m, struct clock_pair *first)
{
	struct kvm_clock_data data = clock_of(m);
	struct clock_pair now = { .ns = data.clock, .tsc = data.host_tsc + offset_of(&m->f.vcpu) };

	assert_true(data.flags & KVM_CLOCK_HOST_TSC);
	assert_true(data.flags & KVM_CLOCK_TSC_STABLE);
	if (!first->tsc)
		*first = now;
	return (s64)clocks_tsc_lag(*first, now, m->khz);
}

static void two_hundred_freezes_leave_tsc_and_kvmclock_in_step(void **state)
{
	struct clock_pair first = { 0 };
	s64 apart = 0, most = 0;
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	SKIP_WITHOUT_OFFSETS(&m);
	sample(&m);
	if (!(clock_of(&m).flags & KVM_CLOCK_HOST_TSC)) {
		print_message("skipped: this KVM does not tell the host's TSC with its clock\n");
		freeze(&m);
		thaw(&m, false);
		machine_deinit(&m);
		skip();
	}
	ahead(&m, &first);
	for (u32 i = 0; i < 200; i++) {
		freeze(&m);
		if (i % 10 == 0)
			stay_frozen(3 * NSEC_PER_MSEC);
		thaw(&m, false);
		sample(&m);
		// A step within a freeze: time runs a moment, and stands again.
		freeze(&m);
		thaw(&m, false);
		sample(&m);
		apart = ahead(&m, &first);
		most = llabs(apart) > most ? llabs(apart) : most;
	}
	print_message("TSC and kvmclock are %lld ns apart, at most %lld\n", (long long)apart * 1000000 / m.khz,
		      (long long)most * 1000000 / m.khz);
	assert_true(most < (s64)cycles(&m, 20));
	machine_deinit(&m);
}

static void put(struct kvm_lapic_state *lapic, u32 reg, u32 value)
{
	memcpy(lapic->regs + reg, &value, sizeof(value));
}

static u32 get(const struct vcpu *vcpu, u32 reg)
{
	struct kvm_lapic_state lapic;
	u32 value;

	assert_no_error(vcpu_get_lapic(vcpu, &lapic));
	memcpy(&value, lapic.regs + reg, sizeof(value));
	return value;
}

static bool is_requested(struct machine *m, u32 vector)
{
	return get(&m->f.vcpu, LAPIC_REQUESTED + vector / 32 * 16) >> vector % 32 & 1;
}

static void set_deadline(struct machine *m, u64 tsc)
{
	const struct kvm_msr_entry msr = { .index = MSR_DEADLINE, .data = tsc };

	assert_no_error(vcpu_set_msrs(&m->f.vcpu, &msr, 1));
}

static u64 deadline_of(struct machine *m)
{
	struct kvm_msr_entry msr = { .index = MSR_DEADLINE };

	assert_no_error(vcpu_get_msrs(&m->f.vcpu, &msr, 1));
	return msr.data;
}

/* What the guest's TSC is by KVM's own account. */
static u64 guest_tsc(struct machine *m)
{
	return __rdtsc() + offset_of(&m->f.vcpu);
}

/* As a guest would have set it up; ns from now (0: not armed). The boot CPU's interrupts are off all the time. */
static void arm_timer(struct machine *m, enum timer_mode mode, u32 ns)
{
	struct kvm_lapic_state lapic;

	assert_no_error(vcpu_get_lapic(&m->f.vcpu, &lapic));
	put(&lapic, LAPIC_SPURIOUS, 0x1ff);
	put(&lapic, LAPIC_TIMER, TIMER_VECTOR | mode);
	put(&lapic, LAPIC_DIVIDE, 0xb); // by one: a count is a nanosecond
	put(&lapic, LAPIC_INITIAL, mode == DEADLINE ? 0 : ns);
	put(&lapic, LAPIC_CURRENT, mode == DEADLINE ? 0 : ns);
	assert_no_error(vcpu_set_lapic(&m->f.vcpu, &lapic));
	if (mode == DEADLINE && ns)
		set_deadline(m, guest_tsc(m) + (u64)ns * m->khz / 1000000);
}

/* What was left of the timer when it was noted, in nanoseconds. */
static s64 left(const struct machine *m)
{
	const struct timer_note *note = &m->timers[0];

	if (!note->deadline)
		return note->count;
	return (s64)(note->deadline - m->clocks.host_tsc - m->clocks.offsets[0]) * 1000000 / m->khz;
}

/* Lets the guest run until its timer's interrupt is requested; returns nanoseconds since `since`. */
static s64 run_until_fired(struct machine *m, u64 since)
{
	u64 limit = clock_now_ns() + 30 * NSEC_PER_SEC;

	while (!is_requested(m, TIMER_VECTOR)) {
		assert_true(clock_now_ns() < limit);
		sample(m);
	}
	return (s64)(clock_now_ns() - since);
}

/*
 * Frozen until long after it would have fired; then it has to take what was left. A timer that is late proves
 * nothing on a busy host. An early one is never right: KVM itself is early by some microseconds, and the two
 * host clocks involved differ by up to half a thousandth.
 */
static void check_timer(enum timer_mode mode)
{
	u32 ns = 100 * NSEC_PER_MSEC;
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	if (mode == DEADLINE)
		SKIP_WITHOUT_OFFSETS(&m);
	sample(&m);
	// A busy host may be late to freeze it.
	do {
		ns *= 2;
		assert_true(ns <= 3200 * NSEC_PER_MSEC);
		arm_timer(&m, mode, ns);
		freeze(&m);
	} while (left(&m) < ns / 2);
	assert_true(mode == DEADLINE ? m.timers[0].deadline != 0 : m.timers[0].count != 0);
	stay_frozen(ns + 100 * NSEC_PER_MSEC);

	s64 remaining = left(&m);
	u64 since = clock_now_ns();

	thaw(&m, false);

	s64 took = run_until_fired(&m, since);

	print_message("%lld us were left, it fired after %lld us\n", (long long)remaining / 1000,
		      (long long)took / 1000);
	assert_true(took >= remaining - (s64)(200000 + remaining / 2000));
	machine_deinit(&m);
}

static void a_deadline_waits_for_what_was_left_of_it(void **state)
{
	check_timer(DEADLINE);
}

static void a_one_shot_waits_for_what_was_left_of_it(void **state)
{
	check_timer(ONE_SHOT);
}

static void a_periodic_timer_waits_for_what_was_left_of_it(void **state)
{
	check_timer(PERIODIC);
}

static void a_deadline_that_had_passed_is_delivered(void **state)
{
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	SKIP_WITHOUT_OFFSETS(&m);
	sample(&m);
	arm_timer(&m, DEADLINE, 0);
	set_deadline(&m, guest_tsc(&m) - 1);
	assert_false(is_requested(&m, TIMER_VECTOR)); // KVM has seen it, and delivers it in the next run
	freeze(&m);
	stay_frozen(20 * NSEC_PER_MSEC);
	thaw(&m, false);
	run_until_fired(&m, 0);
	machine_deinit(&m);
}

static void a_one_shot_that_had_passed_is_delivered(void **state)
{
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	sample(&m);
	arm_timer(&m, ONE_SHOT, 1000);
	stay_frozen(20 * NSEC_PER_MSEC);
	freeze(&m);
	assert_int_equal(m.timers[0].count, 0);
	thaw(&m, false);
	run_until_fired(&m, 0);
	machine_deinit(&m);
}

static void a_timer_that_is_not_armed_stays_so(void **state)
{
	static const enum timer_mode modes[] = { ONE_SHOT, PERIODIC, DEADLINE };
	struct machine m;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(modes); i++) {
		machine_init(&m, VM_IRQCHIP_KERNEL);
		sample(&m);
		arm_timer(&m, modes[i], 0);
		freeze(&m);
		assert_int_equal(m.timers[0].deadline, 0);
		assert_int_equal(m.timers[0].count, 0);
		thaw(&m, true);
		for (u32 j = 0; j < 10; j++)
			sample(&m);
		assert_int_equal(deadline_of(&m), 0);
		assert_int_equal(get(&m.f.vcpu, LAPIC_CURRENT), 0);
		assert_false(is_requested(&m, TIMER_VECTOR));
		machine_deinit(&m);
	}
}

/* Each freeze notes what there is then, whatever the last one found. */
static void a_timer_may_change_its_mode_between_freezes(void **state)
{
	static const enum timer_mode modes[] = { DEADLINE, ONE_SHOT, DEADLINE, PERIODIC, ONE_SHOT };
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	sample(&m);
	for (u32 i = 0; i < 2 * ARRAY_SIZE(modes); i++) {
		bool armed = i % 3 != 2, deadline = modes[i % 5] == DEADLINE;

		arm_timer(&m, modes[i % 5], 0);
		if (armed && deadline)
			set_deadline(&m, UINT64_MAX / 2 + i);
		else if (armed)
			arm_timer(&m, modes[i % 5], 4 * NSEC_PER_SEC);
		freeze(&m);
		assert_int_equal(m.timers[0].deadline, armed && deadline ? UINT64_MAX / 2 + i : 0);
		assert_int_equal(m.timers[0].count != 0, armed && !deadline);
		thaw(&m, false);
		sample(&m);
	}
	machine_deinit(&m);
}

/* A device's interrupt, raised when the timer had been noted already. */
static void an_interrupt_that_comes_in_during_the_freeze_stays(void **state)
{
	static const enum timer_mode modes[] = { ONE_SHOT, PERIODIC, DEADLINE };
	struct machine m;

	SKIP_WITHOUT_KVM();
	for (u32 i = 0; i < ARRAY_SIZE(modes); i++) {
		machine_init(&m, VM_IRQCHIP_KERNEL);
		sample(&m);
		arm_timer(&m, modes[i], modes[i] == DEADLINE && !m.has_offsets ? 0 : NSEC_PER_SEC);
		freeze(&m);
		assert_no_error(vm_signal_msi(&m.f.vm, 0xfee00000, OTHER_VECTOR, NULL));
		thaw(&m, false);
		assert_true(is_requested(&m, OTHER_VECTOR));
		sample(&m);
		assert_true(is_requested(&m, OTHER_VECTOR));
		machine_deinit(&m);
	}
}

static bool was_told(struct machine *m)
{
	u8 *flags = m->f.memory.base + PVCLOCK_GPA + PVCLOCK_FLAGS;

	return *flags & PVCLOCK_STOPPED;
}

static void only_a_long_freeze_is_told_to_the_guests_watchdogs(void **state)
{
	const struct kvm_msr_entry enable = { .index = MSR_KVMCLOCK, .data = PVCLOCK_GPA | 1 };
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	assert_no_error(vcpu_set_msrs(&m.f.vcpu, &enable, 1));
	sample(&m);
	freeze(&m);
	thaw(&m, false);
	sample(&m);
	assert_false(was_told(&m));
	freeze(&m);
	thaw(&m, true);
	sample(&m);
	assert_true(was_told(&m));
	machine_deinit(&m);
}

/* Nobody listens there, and that is fine. */
static void a_guest_without_kvmclock_need_not_be_told(void **state)
{
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_KERNEL);
	sample(&m);
	assert_no_error(vcpu_tell_stopped(&m.f.vcpu));
	freeze(&m);
	thaw(&m, false);
	machine_deinit(&m);
}

static void a_machine_without_local_apics_has_no_timers(void **state)
{
	struct machine m;

	SKIP_WITHOUT_KVM();
	machine_init(&m, VM_IRQCHIP_NONE);
	sample(&m);
	freeze(&m);
	assert_int_equal(m.timers[0].deadline, 0);
	assert_int_equal(m.timers[0].count, 0);
	thaw(&m, true);
	sample(&m);
	machine_deinit(&m);
}

static void a_kvm_without_clocks_is_told_and_fails_nothing(void **state)
{
	const struct vm vm = { .fd = -1 };
	struct machine m = { .f = { .vcpu = { .fd = -1 } }, .second = { .fd = -1 } };

	assert_no_error(clocks_init(&m.clocks, &vm, 2600000, 2));
	assert_true(clocks_are_exact(&m.clocks));
	freeze(&m);
	thaw(&m, true);
	assert_false(clocks_are_exact(&m.clocks));
	clocks_deinit(&m.clocks);
}

static void without_a_frequency_clocks_are_not_exact(void **state)
{
	const struct vm vm = { .fd = -1 };
	struct clocks clocks;

	assert_no_error(clocks_init(&clocks, &vm, 0, 1));
	assert_false(clocks_are_exact(&clocks));
	clocks_deinit(&clocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tsc_lags_by_what_the_clock_did_not_advance),
		cmocka_unit_test(the_lag_is_rounded_to_the_nearest_cycle),
		cmocka_unit_test(a_guest_sees_no_freeze_on_its_tsc),
		cmocka_unit_test(every_offset_is_lowered_by_the_same_amount),
		cmocka_unit_test(kvmclock_stands_still),
		cmocka_unit_test(letting_go_what_is_not_stopped_does_nothing),
		cmocka_unit_test(two_hundred_freezes_leave_tsc_and_kvmclock_in_step),
		cmocka_unit_test(a_deadline_waits_for_what_was_left_of_it),
		cmocka_unit_test(a_one_shot_waits_for_what_was_left_of_it),
		cmocka_unit_test(a_periodic_timer_waits_for_what_was_left_of_it),
		cmocka_unit_test(a_deadline_that_had_passed_is_delivered),
		cmocka_unit_test(a_one_shot_that_had_passed_is_delivered),
		cmocka_unit_test(a_timer_that_is_not_armed_stays_so),
		cmocka_unit_test(a_timer_may_change_its_mode_between_freezes),
		cmocka_unit_test(an_interrupt_that_comes_in_during_the_freeze_stays),
		cmocka_unit_test(only_a_long_freeze_is_told_to_the_guests_watchdogs),
		cmocka_unit_test(a_guest_without_kvmclock_need_not_be_told),
		cmocka_unit_test(a_machine_without_local_apics_has_no_timers),
		cmocka_unit_test(a_kvm_without_clocks_is_told_and_fails_nothing),
		cmocka_unit_test(without_a_frequency_clocks_are_not_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
