/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The helper machine's side of with-kvm: init.c (PID 1), agent.c (a port), session.c (a command).
 * Depends on wire.h and the C library, linked statically.
 * Promises: at the end of a session no process of it is left, and nothing it mounted or wrote
 * outside of the two writable shares.
 */
#ifndef KTSTR_HELPER_AGENT_H
#define KTSTR_HELPER_AGENT_H

#include "wire.h"

#include <stddef.h>
#include <sys/types.h>

/*
 * The host's root and /usr, mounted once. Project and cache are mounted by each session for itself,
 * by a device that belongs to its port (project1, cache1, ...): two commands that shared a mount
 * would share its cache, and one that has a program open would keep the other from seeing that it
 * was built anew.
 */
#define SHARES "/share"
#define SHARE_ROOT SHARES "/root"
#define SHARE_USR SHARES "/usr"

/*
 * Where warm machines are kept (KTSTR_WARM_DIR): memory of the helper, since 9p has neither holes nor files
 * without a name nor locks that others see. All commands share it; it lives as long as the helper.
 */
#define WARM "/run/ktstr-warm"

/*
 * cache=readahead keeps nothing of a closed file. (cache=none would neither of an open one, but
 * reads mapped files page by page, at a tenth of the speed.) Writes go through to the host.
 */
#define SHARE_OPTIONS "trans=virtio,version=9p2000.L,msize=512000,access=client"

enum { PORT_COUNT = 8 };

struct session {
	int slot;
	pid_t pid; /* 0: none running */
	int in, out, err; /* our ends, non-blocking; -1: closed. A pty is both in and out */
	int exited; /* the command was reaped, its output may not be read yet */
	int status;
};

/* Serves one port for ever. */
_Noreturn void agent_run(const char *path, int slot);

/*
 * Runs the command of a complete request. 0, or -1 with errno when nothing was started; a command
 * that cannot be executed is started, says so on its standard error and ends with 126 or 127.
 */
int session_start(struct session *s, const char *data, size_t size);

/* Kills whatever the session still has and closes the descriptors. */
void session_end(struct session *s);

void session_signal(const struct session *s, int number);
void session_resize(const struct session *s, unsigned int rows, unsigned int columns);

#endif
