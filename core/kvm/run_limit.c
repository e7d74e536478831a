// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/run_limit.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

static struct error *let_signal_end_run(const struct vcpu *vcpu, const sigset_t *before, int signo)
{
	u64 blocked = 0;
	// struct kvm_signal_mask and, right behind its four bytes, the kernel's 64-bit set.
	u32 mask[3] = { sizeof(blocked) };

	for (int s = 1; s <= 64; s++)
		if (s != signo && sigismember(before, s) == 1)
			blocked |= 1ULL << (s - 1);
	memcpy(&mask[1], &blocked, sizeof(blocked));
	return KVM_IOCTL(vcpu->fd, KVM_SET_SIGNAL_MASK, mask, "a bound in time");
}

struct error *run_limit_init(struct run_limit *limit, const struct vcpu *vcpu, u64 ns)
{
	const int signo = SIGRTMAX;
	const struct itimerspec when = {
		.it_value = { .tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_nsec = (long)(ns % NSEC_PER_SEC) },
		// Again and again: a run may have been interrupted by something else when the first comes.
		.it_interval = { .tv_nsec = 10 * NSEC_PER_MSEC },
	};
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signo };

	*limit = (struct run_limit){ .armed = false };
	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	sigemptyset(&limit->signal);
	sigaddset(&limit->signal, signo);
	if (timer_create(CLOCK_MONOTONIC, &event, &limit->timer) != 0)
		return error_create_errno("timer for a bound in time");
	pthread_sigmask(SIG_BLOCK, &limit->signal, &limit->before);
	limit->armed = true;

	struct error *err = let_signal_end_run(vcpu, &limit->before, signo);

	if (!err && timer_settime(limit->timer, 0, &when, NULL) != 0)
		err = error_create_errno("timer for a bound in time");
	if (err)
		run_limit_deinit(limit);
	return err;
}

void run_limit_deinit(struct run_limit *limit)
{
	const struct timespec none = { 0 };

	if (!limit->armed)
		return;
	timer_delete(limit->timer);
	// One that came after the guest's end would kill the process once it is no longer blocked.
	while (sigtimedwait(&limit->signal, NULL, &none) > 0 || errno == EINTR)
		;
	pthread_sigmask(SIG_SETMASK, &limit->before, NULL);
	limit->armed = false;
}
