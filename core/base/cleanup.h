/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cleanup attributes: what a scope owns is released when it ends, however it ends.
 * Depends on libc. Core is built with -fexceptions, so thread cancellation unwinds them too.
 * A value that leaves the scope is taken out with no_free()/no_close().
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_fclose_(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define CLEANUP(f) __attribute__((cleanup(f)))
#define CLEANUP_FREE CLEANUP(cleanup_free_)
#define CLEANUP_CLOSE CLEANUP(cleanup_close_)
#define CLEANUP_FCLOSE CLEANUP(cleanup_fclose_)

/* The pointer's value; the variable itself becomes NULL. */
#define no_free(p) __extension__({ __auto_type no_free_ = (p); (p) = NULL; no_free_; })
/* The descriptor's value; the variable itself becomes -1. */
#define no_close(fd) __extension__({ int no_close_ = (fd); (fd) = -1; no_close_; })

#endif
