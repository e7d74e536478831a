/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes between with-kvm's client (on the host) and agent (in the helper machine).
 * Depends on nothing but <stdint.h>; both ends are built from the same tree, for x86-64.
 * Promises: a stream that was cut anywhere by a client's death is in step again at the next request.
 *
 * One virtio-serial port carries one command at a time. Every frame is a header and at most
 * FRAME_MAX bytes. A client cannot know what the one before it left half-sent, so it begins with
 * as many PAD bytes (each a frame of its own) as a cut frame could still swallow; and it ignores
 * all that comes back until a STARTED frame shows its own nonce.
 *
 *	client				agent
 *	PAD... REQUEST DATA... END	(ends what an earlier client left running)
 *					STARTED
 *	GO				(sets the clock, runs the command)
 *	STDIN SIGNAL WINSIZE		STDOUT STDERR CREDIT
 *					EXIT
 */
#ifndef KTSTR_HELPER_WIRE_H
#define KTSTR_HELPER_WIRE_H

#include <stdint.h>

enum frame_type {
	FRAME_PAD = 0, /* a single byte, no header */
	FRAME_REQUEST = 0xa1, /* nonce: forget everything before it */
	FRAME_REQUEST_DATA, /* a piece of struct request and what follows it */
	FRAME_REQUEST_END,
	FRAME_STARTED, /* WIRE_MAGIC and the nonce */
	FRAME_GO, /* u64: CLOCK_REALTIME of the host in nanoseconds */
	FRAME_STDIN, /* empty: end of file */
	FRAME_CREDIT, /* u32: so many bytes of standard input were consumed */
	FRAME_STDOUT,
	FRAME_STDERR,
	FRAME_SIGNAL, /* u32: signal number, for the command's process group */
	FRAME_WINSIZE, /* u16 rows, u16 columns */
	FRAME_EXIT, /* u32: as a shell reports it: 0 to 255, 128 + signal */
};

enum {
	FRAME_MAX = 16384,
	NONCE_SIZE = 16,
	STDIN_WINDOW = 65536, /* standard input that may be under way */
	REQUEST_MAX = 8 << 20, /* more than execve() takes */
};

#define WIRE_MAGIC "ktstr-helper-1\n" /* 16 bytes with its NUL */

struct frame_header {
	uint8_t type;
	uint8_t reserved[3];
	uint32_t length;
};

enum request_flags {
	REQUEST_PTY = 1, /* stdin and stdout are a terminal: give the command one */
	REQUEST_PTY_STDERR = 2, /* stderr too */
	REQUEST_STDIN = 4, /* there is a standard input; without: /dev/null */
	REQUEST_MERGED = 8, /* stdout and stderr are the same file: keep their order exact */
	REQUEST_REFRESH = 16, /* the host's system files changed: drop what is cached of them */
	REQUEST_PING = 32, /* run nothing */
};

/*
 * Then: u32 groups[groups]; strings, each with its NUL: working directory, project directory,
 * cache directory, argv[argc], env[envc].
 */
struct request {
	uint32_t flags;
	uint32_t uid;
	uint32_t gid;
	uint32_t umask;
	uint32_t groups;
	uint32_t argc;
	uint32_t envc;
	uint16_t rows;
	uint16_t columns;
	uint64_t open_files; /* RLIMIT_NOFILE, soft */
};

#endif
