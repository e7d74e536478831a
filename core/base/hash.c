// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <xxhash.h>

#include "base/cleanup.h"

enum { PIECE = 256 << 10 };

_Static_assert(sizeof(XXH128_canonical_t) == HASH128_SIZE, "a hash128 is libxxhash's canonical form");

/* The state that libxxhash allocates, under a name of ours. */
static XXH3_state_t *xxh(struct hash_stream *s)
{
	return (XXH3_state_t *)s;
}

static void xxh_cleanup(XXH3_state_t **s)
{
	XXH3_freeState(*s);
}

static struct hash128 hash128_of(XXH128_hash_t h)
{
	struct hash128 ret;
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, h);
	memcpy(ret.bytes, canonical.digest, sizeof(ret.bytes));
	return ret;
}

u64 hash64(const void *data, size_t size)
{
	return XXH3_64bits(data, size);
}

struct hash128 hash128(const void *data, size_t size)
{
	return hash128_of(XXH3_128bits(data, size));
}

void hash128_hex(const struct hash128 *h, char out[HASH128_HEX])
{
	for (size_t i = 0; i < HASH128_SIZE; i++) {
		out[2 * i] = "0123456789abcdef"[h->bytes[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[h->bytes[i] & 15];
	}
	out[HASH128_HEX - 1] = '\0';
}

/* Not blocking: a FIFO is refused, not waited for. */
static struct error *open_regular(const char *path, int *ret)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return error_create(ERROR_NOT_FOUND, "there is no file '%s'", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_create_errno("cannot open '%s'", path);
	if (!S_ISREG(st.st_mode))
		return error_create(ERROR_INVALID, "'%s' is not a regular file", path);
	*ret = no_close(fd);
	return NULL;
}

// Read, not mapped: a file that shrinks or a disk that fails is an error then, not a SIGBUS.
struct error *hash_file(const char *path, struct hash128 *ret)
{
	CLEANUP_CLOSE int fd = -1;
	struct error *err = open_regular(path, &fd);

	if (err)
		return err;

	CLEANUP_FREE u8 *piece = malloc(PIECE);
	CLEANUP(xxh_cleanup)
	XXH3_state_t *state = XXH3_createState();

	if (!piece || !state)
		return error_no_memory();
	XXH3_128bits_reset(state);
	for (;;) {
		ssize_t n = read(fd, piece, PIECE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_create_errno("cannot read '%s'", path);
		if (!n)
			break;
		XXH3_128bits_update(state, piece, (size_t)n);
	}
	*ret = hash128_of(XXH3_128bits_digest(state));
	return NULL;
}

struct hash_stream *hash_stream_create(void)
{
	XXH3_state_t *state = XXH3_createState();

	if (state)
		XXH3_64bits_reset(state);
	return (struct hash_stream *)state;
}

void hash_stream_add(struct hash_stream *s, const void *data, size_t size)
{
	XXH3_64bits_update(xxh(s), data, size);
}

u64 hash_stream_end(struct hash_stream *s)
{
	u64 sum = XXH3_64bits_digest(xxh(s));

	XXH3_64bits_reset(xxh(s));
	return sum;
}

void hash_stream_destroy(struct hash_stream *s)
{
	XXH3_freeState(xxh(s));
}
