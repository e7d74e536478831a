// SPDX-License-Identifier: GPL-2.0-or-later
/* PipeIo: two workers compute, tell each other through pipes, and wait for the other's word. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "work/work.h"

/* Pipe m is the one that member m writes: fds[2 * m] to read, fds[2 * m + 1] to write. */
static int prepare(struct work_cell *cell, const u64 *params)
{
	(void)params;
	for (u32 m = 0; m < 2; m++) {
		if (pipe2(&cell->fds[cell->fd_count], O_CLOEXEC))
			return errno;
		cell->fd_count += 2;
	}
	return 0;
}

/* The word is the time it was sent at. False when it is to stop, or failed. */
static bool wait_for_word(struct worker *w, int fd)
{
	u64 asked, began = work_now();
	ssize_t n;

	do {
		n = read(fd, &asked, sizeof(asked));
	} while (n < 0 && errno == EINTR && worker_is_running(w));
	if (!worker_is_running(w)) {
		worker_interrupted(w, began);
		return false;
	}
	if (n != sizeof(asked)) {
		worker_fail(w, n < 0 ? errno : 0, n < 0 ? "cannot read the pipe" : "the partner is gone");
		return false;
	}
	if (asked >= began)
		worker_woken(w, began, asked);
	return true;
}

static void run(struct worker *w)
{
	const int *fds = w->cell->fds;
	u32 other = !w->member;
	int from = fds[2 * other], to = fds[2 * w->member + 1];

	/* What is the other's alone, so that its end is seen. */
	close(fds[2 * w->member]);
	close(fds[2 * other + 1]);
	while (worker_is_running(w)) {
		u64 now;

		worker_spin(w, w->params[0]);
		now = work_now();
		if (write(to, &now, sizeof(now)) != sizeof(now)) {
			if (worker_is_running(w) && errno != EINTR)
				worker_fail(w, errno, "cannot write the pipe");
			return;
		}
		if (!wait_for_word(w, from))
			return;
		worker_iterate(w, 1);
	}
}

const struct work_ops pipe_io_ops = { .prepare = prepare, .run = run };
