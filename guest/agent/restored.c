// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/restored.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
	RUN_ID_SIZE = 32,
	ENTROPY_MIN = 64,
	/* More at once, and the kernel may stop half-way for a signal. */
	ENTROPY_PIECE = 512,
};

/* linux/random.h, which musl does not bring. */
#define RNDADDENTROPY _IOW('R', 0x03, int[2])
#define RNDRESEEDCRNG _IO('R', 0x07)

struct rand_pool_info {
	int entropy_count; /* bits */
	int buf_size; /* bytes */
	u8 buf[ENTROPY_PIECE];
};

struct restored {
	char run_id[RUN_ID_SIZE + 1];
	u64 realtime_ns;
	const u8 *entropy;
	size_t entropy_size;
};

void send_ready(struct agent *agent, const char *run_id)
{
	struct attr_writer w = attr_writer_init(port_frame(&agent->port, REPLY_SMALL), REPLY_SMALL);
	struct utsname name;

	uname(&name);
	attr_put_u32(&w, ATTR_VERSION, WIRE_VERSION);
	attr_put_string(&w, ATTR_RELEASE, name.release);
	attr_put_u32(&w, ATTR_PID, (u32)getpid());
	if (run_id)
		attr_put_string(&w, ATTR_RUN_ID, run_id);
	port_frame_done(&agent->port, MSG_SYS_RDY, w.size);
}

static int take_run_id(const struct attr *a, char out[static RUN_ID_SIZE + 1], struct fail *f)
{
	bool good = attr_string(a, out, RUN_ID_SIZE + 1) && a->length == RUN_ID_SIZE;

	for (size_t i = 0; good && i < RUN_ID_SIZE; i++)
		good = isxdigit((unsigned char)out[i]);
	return good ? 0 : fail_with(f, EINVAL, "RUN_ID is not %d hexadecimal digits", RUN_ID_SIZE);
}

static int parse(const struct request *q, struct restored *ret, struct fail *f)
{
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct attr a;
	int error = 0;

	*ret = (struct restored){ 0 };
	while (!error && attr_next(&r, &a)) {
		if (a.info->type == ATTR_RUN_ID) {
			error = take_run_id(&a, ret->run_id, f);
		} else if (a.info->type == ATTR_REALTIME_NS) {
			ret->realtime_ns = attr_u64(&a);
		} else if (a.info->type == ATTR_ENTROPY) {
			ret->entropy = a.value;
			ret->entropy_size = a.length;
		}
	}
	if (error || (r.malformed && (error = fail_malformed(f))))
		return error;
	if (!*ret->run_id)
		return fail_with(f, EINVAL, "RUN_ID is missing");
	if (!ret->realtime_ns || ret->realtime_ns > INT64_MAX)
		return fail_with(f, EINVAL, "REALTIME_NS is missing, or no time");
	if (ret->entropy_size < ENTROPY_MIN)
		return fail_with(f, EINVAL, "ENTROPY has %zu bytes, not %d or more", ret->entropy_size, ENTROPY_MIN);
	return 0;
}

/* The bytes count as the entropy that they are; and whoever reads random bytes from now on has them in. */
static int reseed(const struct agent *agent, const u8 *bytes, size_t n, struct fail *f)
{
	CLEANUP_CLOSE int fd = open(agent->random_path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return fail_errno(f, "cannot open '%s'", agent->random_path);
	while (n) {
		size_t size = n < ENTROPY_PIECE ? n : ENTROPY_PIECE;
		struct rand_pool_info info = { .entropy_count = (int)(8 * size), .buf_size = (int)size };

		memcpy(info.buf, bytes, size);
		if (ioctl(fd, RNDADDENTROPY, &info))
			return fail_errno(f, "cannot add to the random pool");
		bytes += size;
		n -= size;
	}
	return ioctl(fd, RNDRESEEDCRNG) ? fail_errno(f, "cannot reseed the random pool") : 0;
}

static int set_clock(const struct agent *agent, u64 ns, struct fail *f)
{
	const struct timespec now = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	if (!agent->init) {
		agent_log(agent, "under test: CLOCK_REALTIME stays; it is off by %lld ns",
			  (long long)(agent_clock(CLOCK_REALTIME) - ns));
		return 0;
	}
	return clock_settime(CLOCK_REALTIME, &now) ? fail_errno(f, "cannot set CLOCK_REALTIME to %llu ns",
								(unsigned long long)ns) :
						     0;
}

int op_restored(struct agent *agent, const struct request *q, struct fail *f)
{
	struct restored restored;
	int error = parse(q, &restored, f);

	error = error ?: reseed(agent, restored.entropy, restored.entropy_size, f);
	error = error ?: set_clock(agent, restored.realtime_ns, f);
	if (error)
		return error;
	send_ready(agent, restored.run_id);
	reply_empty(agent, q->id);
	return 0;
}
