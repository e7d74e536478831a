/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes and reads the frames and attributes of tlv/wire.h, for the host and for the guest's agent.
 * Depends on base/types.h, wire.h, crc32.h and memcpy; allocates nothing, works in the caller's memory.
 * No byte is believed before it has been checked, and whatever is dropped is counted.
 */
#ifndef TLV_CODEC_H
#define TLV_CODEC_H

#include "base/types.h"
#include "tlv/wire.h"

/* --- frames --- */

/* Makes the frame whose payload of length bytes (at most WIRE_PAYLOAD_MAX) is already at frame +
 * WIRE_HEADER_SIZE: writes the header before it. Returns the frame's size. */
size_t frame_seal(void *frame, u32 type, u32 length);

/* Writes a whole frame; payload may be NULL when length is 0. Returns its size, or 0 when it does not
 * fit in capacity or length exceeds WIRE_PAYLOAD_MAX. */
size_t frame_encode(void *out, size_t capacity, u32 type, const void *payload, u32 length);

/* Is it one of enum wire_type? */
bool wire_type_is_known(u32 type);

struct frame_stats {
	u64 frames; /* good ones handed out */
	u64 bad_headers; /* times the stream lost step: a run of bytes skipped counts once */
	u64 bad_payloads; /* frames dropped because their payload failed its CRC */
	u64 unknown; /* frames skipped for their type */
	u64 skipped_bytes; /* bytes slid over in search of a header */
};

/*
 * Cuts a byte stream into frames. The buffer is the caller's and bounds the memory; it must hold the
 * largest frame that is to be accepted. A header that announces more is as bad as one with a bad CRC.
 */
struct frame_reader {
	u8 *data;
	size_t capacity;
	size_t start, end; /* bytes not yet consumed */
	bool searching; /* the last byte looked at was no header: the run is already counted */
	struct frame_stats stats;
};

enum { FRAME_BUFFER_MAX = WIRE_HEADER_SIZE + WIRE_PAYLOAD_MAX };

struct frame {
	u32 type;
	u32 length;
	const void *payload; /* in the reader's buffer, unaligned; valid until frame_reader_space() */
};

/* capacity is at least WIRE_HEADER_SIZE. */
void frame_reader_init(struct frame_reader *r, void *buffer, size_t capacity);

/* Where the next bytes of the stream go, and (the result) how many fit: never 0 once
 * frame_reader_next() has returned false. */
size_t frame_reader_space(struct frame_reader *r, u8 **ret);

/* n bytes were put there. */
void frame_reader_advance(struct frame_reader *r, size_t n);

/* Drops what has not been consumed. */
void frame_reader_reset(struct frame_reader *r);

/* The next good frame; false when more bytes are needed. */
bool frame_reader_next(struct frame_reader *r, struct frame *ret);

/* --- attributes --- */

enum attr_kind {
	ATTR_KIND_STRING, /* bytes, no NUL in them and none at the end */
	ATTR_KIND_U32,
	ATTR_KIND_U64,
	ATTR_KIND_S32,
	ATTR_KIND_FLAG, /* no value: being there is what it says */
	ATTR_KIND_PARAM, /* struct wire_param */
	ATTR_KIND_U64_ARRAY,
	ATTR_KIND_BYTES, /* any */
};

struct attr_info {
	const char *name; /* without ATTR_: "STDOUT_BYTES" */
	u16 type; /* enum wire_attr */
	u16 kind; /* enum attr_kind */
};

/* Every attribute of wire.h, by type, without holes: type t is attr_infos[t - 1]. */
extern const struct attr_info attr_infos[];
extern const u32 attr_info_count;

/* NULL when there is no such attribute. */
const struct attr_info *attr_info_by_type(u32 type);
const struct attr_info *attr_info_by_name(const char *name);

/*
 * Appends attributes to the caller's memory. The first one that does not fit, or whose kind is not what
 * attr_infos says, sets failed, and nothing is written after it.
 */
struct attr_writer {
	u8 *data;
	size_t size; /* bytes in use, a multiple of 4 */
	size_t capacity;
	bool failed;
};

struct attr_writer attr_writer_init(void *data, size_t capacity);
void attr_put_string(struct attr_writer *w, u32 type, const char *value);
/* The value may not contain a NUL. */
void attr_put_bytes(struct attr_writer *w, u32 type, const void *value, size_t n);
void attr_put_u32(struct attr_writer *w, u32 type, u32 value);
void attr_put_u64(struct attr_writer *w, u32 type, u64 value);
void attr_put_s32(struct attr_writer *w, u32 type, s32 value);
void attr_put_flag(struct attr_writer *w, u32 type);
void attr_put_param(struct attr_writer *w, u32 type, u64 index, u64 value);
void attr_put_u64_array(struct attr_writer *w, u32 type, const u64 *values, size_t count);
void attr_put_data(struct attr_writer *w, u32 type, const void *data, size_t n);

struct attr_reader {
	const u8 *data;
	size_t size;
	size_t pos;
	bool malformed; /* a length lied, or a value is not of its attribute's kind */
};

struct attr {
	const struct attr_info *info;
	const void *value; /* unaligned: use the getters */
	size_t length;
};

struct attr_reader attr_reader_init(const void *data, size_t size);
/* The next attribute that is known; false at the end, and at the first malformed one. */
bool attr_next(struct attr_reader *r, struct attr *ret);

/* The value; the attribute's kind must be the right one (attr_next has checked the length). */
u32 attr_u32(const struct attr *a);
u64 attr_u64(const struct attr *a);
s32 attr_s32(const struct attr *a);
struct wire_param attr_param(const struct attr *a);
/* Of an array: how many, and the i-th (i below that). */
size_t attr_array_count(const struct attr *a);
u64 attr_array_get(const struct attr *a, size_t i);
/* Copies a string with a NUL behind it; false when it does not fit. */
bool attr_string(const struct attr *a, char *out, size_t capacity);

#endif
