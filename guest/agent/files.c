// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

int make_parents(const char *path, u32 mode)
{
	char up[PATH_MAX];
	size_t n = strlen(path);

	if (n >= sizeof(up))
		return ENAMETOOLONG;
	memcpy(up, path, n + 1);
	for (char *slash = up; (slash = strchr(slash + 1, '/'));) {
		*slash = 0;
		if (mkdir(up, mode) && errno != EEXIST)
			return errno;
		*slash = '/';
	}
	return 0;
}

/*
 * Fills out with up to n bytes from offset on. A file that cannot seek (a pipe, a device) is read from where
 * it is, for offset 0. Returns the bytes read, or -1 and errno.
 */
static ssize_t read_at(int fd, u8 *out, size_t n, u64 offset)
{
	bool seeks = lseek(fd, 0, SEEK_CUR) >= 0;
	size_t done = 0;

	if (!seeks && offset) {
		errno = ESPIPE;
		return -1;
	}
	while (done < n) {
		ssize_t got = seeks ? pread(fd, out + done, n - done, (off_t)(offset + done)) :
				      read(fd, out + done, n - done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN && done)
			break;
		if (got < 0)
			return -1;
		if (!got)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

int op_read(struct agent *agent, const struct request *q, struct fail *f)
{
	struct attr_reader r = attr_reader_init(q->body, q->length);
	struct wire_op_reply head = { .request_id = q->id };
	u64 offset = 0, length = WIRE_DATA_MAX;
	char path[PATH_MAX] = "";
	struct attr a;
	int error = 0;

	while (!error && attr_next(&r, &a)) {
		if (a.info->type == ATTR_PATH)
			error = take_string(&a, path, sizeof(path), f);
		else if (a.info->type == ATTR_OFFSET)
			offset = attr_u64(&a);
		else if (a.info->type == ATTR_LENGTH)
			length = attr_u64(&a);
	}
	if (error || (r.malformed && (error = fail_malformed(f))))
		return error;
	if (!*path)
		return fail_with(f, EINVAL, "PATH is missing");
	if (length > WIRE_DATA_MAX || offset > INT64_MAX - WIRE_DATA_MAX)
		return fail_with(f, EINVAL, "cannot read %llu bytes at %llu: at most %d at once",
				 (unsigned long long)length, (unsigned long long)offset, WIRE_DATA_MAX);

	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return fail_errno(f, "cannot open '%s'", path);

	u8 *payload = port_frame(&agent->port, sizeof(head) + length);
	ssize_t n = payload ? read_at(fd, payload + sizeof(head), length, offset) : (errno = ENOBUFS, -1);

	if (n < 0)
		return fail_errno(f, "cannot read '%s'", path);
	memcpy(payload, &head, sizeof(head));
	port_frame_done(&agent->port, MSG_OP_REPLY, sizeof(head) + (size_t)n);
	return 0;
}

static int write_at(int fd, const u8 *data, size_t n, bool seek, u64 offset)
{
	/* One of no bytes too: that is how some of /proc and /sys is told something. */
	do {
		ssize_t done = seek ? pwrite(fd, data, n, (off_t)offset) : write(fd, data, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return errno;
		if (!done && n)
			return EIO;
		data += done;
		n -= (size_t)done;
		offset += (u64)done;
	} while (n);
	return 0;
}

struct write_request {
	struct wire_write head;
	char path[PATH_MAX];
	const u8 *data;
	size_t n;
};

static int parse_write(const struct request *q, struct write_request *w, struct fail *f)
{
	const struct wire_write *head = &w->head;

	if (q->length < sizeof(*head))
		return fail_with(f, EINVAL, "a write of %zu bytes has no header", q->length);
	memcpy(&w->head, q->body, sizeof(*head));
	if (head->path_length > q->length - sizeof(*head))
		return fail_with(f, EINVAL, "a path of %u bytes does not fit in the request",
				 head->path_length);
	if (!head->path_length || head->path_length >= sizeof(w->path) ||
	    memchr(q->body + sizeof(*head), 0, head->path_length))
		return fail_with(f, EINVAL, "%u bytes are no path", head->path_length);
	memcpy(w->path, q->body + sizeof(*head), head->path_length);
	w->path[head->path_length] = 0;
	w->data = q->body + sizeof(*head) + head->path_length;
	w->n = q->length - sizeof(*head) - head->path_length;
	if (w->n > WIRE_DATA_MAX || head->offset > INT64_MAX - WIRE_DATA_MAX || head->mode > 07777)
		return fail_with(f, EINVAL, "cannot write %zu bytes at %llu, mode %o, to '%s'", w->n,
				 (unsigned long long)head->offset, head->mode, w->path);
	if (head->flags & WRITE_REPLACE && (!(head->flags & WRITE_TRUNCATE) || head->offset || !head->mode))
		return fail_with(f, EINVAL, "'%s' can be replaced by a file's first piece only, with a mode", w->path);
	return 0;
}

/* A file of its own, which no other name and no link leads to, with that very mode. Returns it, or -1 and errno. */
static int open_new(const char *path, int flags, mode_t mode)
{
	int fd, error;

	if (unlink(path) && errno != ENOENT)
		return -1;
	fd = open(path, flags | O_CREAT | O_EXCL, mode);
	/* The umask has had its say. */
	if (fd < 0 || !fchmod(fd, mode))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int open_to_write(const char *path, const struct wire_write *head)
{
	int flags = O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (head->flags & WRITE_APPEND ? O_APPEND : 0);

	if (head->flags & WRITE_REPLACE)
		return open_new(path, flags, head->mode);
	return open(path, flags | (head->mode ? O_CREAT : 0) | (head->flags & WRITE_TRUNCATE ? O_TRUNC : 0),
		    head->mode);
}

int op_write(struct agent *agent, const struct request *q, struct fail *f)
{
	struct write_request w;
	int error = parse_write(q, &w, f);

	if (error)
		return error;
	if (w.head.flags & WRITE_MKDIR && (errno = make_parents(w.path, 0755)))
		return fail_errno(f, "cannot make the directories above '%s'", w.path);

	CLEANUP_CLOSE int fd = open_to_write(w.path, &w.head);

	if (fd < 0)
		return fail_errno(f, "cannot open '%s' for writing", w.path);
	error = write_at(fd, w.data, w.n, w.head.offset && !(w.head.flags & WRITE_APPEND), w.head.offset);
	if (error) {
		errno = error;
		return fail_errno(f, "cannot write '%s'", w.path);
	}
	reply_empty(agent, q->id);
	return 0;
}
