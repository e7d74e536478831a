/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SIGINT and SIGTERM: the user wants the program to stop.
 * Depends on base/error.h. The one state in core/ outside a struct, since signals belong to the process.
 * A first signal asks; a second one, or being ignored, ends the process with status 128 + signal.
 */
#ifndef BASE_INTERRUPT_H
#define BASE_INTERRUPT_H

#include "base/error.h"

enum {
	INTERRUPT_IGNORED_S = 2, /* from the signal until somebody notices it */
	INTERRUPT_UNWIND_S = 10, /* from then until the process has ended by itself */
};

/*
 * Installs the handlers. hook(arg) is called from the handler, so it may only do what is safe there; it
 * should make the main thread notice. hook may be NULL.
 */
MUST_CHECK struct error *interrupt_install(void (*hook)(void *arg), void *arg);

/* From any thread: calls the hook as a signal would, although none came. Nothing where none was installed. */
void interrupt_break(void);

/* The signal that came, or 0. */
int interrupt_signal(void);

/* Readable once a signal has come, until it is taken back: for poll(). */
int interrupt_fd(void);

/* The error to return when a signal has come; gives the program time to unwind. */
MUST_CHECK struct error *interrupt_error(void);
/* Whether somebody has got that error: the program is unwinding. */
bool interrupt_is_told(void);

/*
 * For a prompt, which looks at interrupt_signal() itself: while patient, SIGINT does not call the hook, and many
 * of them count as one. SIGTERM is what it always is, also after a SIGINT.
 */
void interrupt_set_patient(bool patient);
/*
 * A SIGINT has been dealt with: all is as if it had never come, and the next one is a first one. False when
 * there is none, or SIGTERM came, which stays. For the thread that takes the signals.
 */
bool interrupt_take_back(void);

#endif
