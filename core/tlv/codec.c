// SPDX-License-Identifier: GPL-2.0-or-later
#include "tlv/codec.h"

#include <string.h>

#include "tlv/crc32.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs travel as they lie in memory");
_Static_assert(sizeof(struct wire_header) == WIRE_HEADER_SIZE, "the header has no padding");

enum { HEADER_CRC_COVERS = offsetof(struct wire_header, header_crc) };

size_t frame_seal(void *frame, u32 type, u32 length)
{
	struct wire_header h = {
		.type = type,
		.length = length,
		.payload_crc = crc32_ieee(0, (u8 *)frame + WIRE_HEADER_SIZE, length),
	};

	h.header_crc = crc32_ieee(0, &h, HEADER_CRC_COVERS);
	memcpy(frame, &h, sizeof(h));
	return WIRE_HEADER_SIZE + (size_t)length;
}

size_t frame_encode(void *out, size_t capacity, u32 type, const void *payload, u32 length)
{
	if (length > WIRE_PAYLOAD_MAX || capacity < WIRE_HEADER_SIZE + (size_t)length)
		return 0;
	if (length)
		memcpy((u8 *)out + WIRE_HEADER_SIZE, payload, length);
	return frame_seal(out, type, length);
}

bool wire_type_is_known(u32 type)
{
	switch ((enum wire_type)type) {
	case MSG_SYS_RDY:
	case MSG_LIFECYCLE:
	case MSG_SCENARIO_START:
	case MSG_SCENARIO_END:
	case MSG_SCENARIO_PAUSE:
	case MSG_SCENARIO_RESUME:
	case MSG_STIMULUS:
	case MSG_STDOUT:
	case MSG_STDERR:
	case MSG_SCHED_LOG:
	case MSG_DMESG:
	case MSG_WORKER_REPORT:
	case MSG_PAYLOAD_METRICS:
	case MSG_PROBE_OUTPUT:
	case MSG_SCHED_EXIT:
	case MSG_TEST_RESULT:
	case MSG_EXIT:
	case MSG_SNAPSHOT_REQUEST:
	case MSG_KERNEL_OP_REQUEST:
	case MSG_OP_REPLY:
	case MSG_OP_REQUEST:
	case MSG_SNAPSHOT_REPLY:
	case MSG_KERNEL_OP_REPLY:
		return true;
	}
	return false;
}

void frame_reader_init(struct frame_reader *r, void *buffer, size_t capacity)
{
	*r = (struct frame_reader){ .data = buffer, .capacity = capacity };
}

size_t frame_reader_space(struct frame_reader *r, u8 **ret)
{
	if (r->start) {
		memmove(r->data, r->data + r->start, r->end - r->start);
		r->end -= r->start;
		r->start = 0;
	}
	*ret = r->data + r->end;
	return r->capacity - r->end;
}

void frame_reader_advance(struct frame_reader *r, size_t n)
{
	r->end += n;
}

void frame_reader_reset(struct frame_reader *r)
{
	r->start = r->end = 0;
	r->searching = false;
}

/* Slides to the next byte that begins a good header; false when the bytes run out first. */
static bool find_header(struct frame_reader *r, struct wire_header *ret)
{
	for (; r->end - r->start >= WIRE_HEADER_SIZE; r->start++) {
		memcpy(ret, r->data + r->start, sizeof(*ret));
		if (ret->header_crc == crc32_ieee(0, ret, HEADER_CRC_COVERS) &&
		    ret->length <= WIRE_PAYLOAD_MAX &&
		    ret->length <= r->capacity - WIRE_HEADER_SIZE) {
			r->searching = false;
			return true;
		}
		if (!r->searching)
			r->stats.bad_headers++;
		r->searching = true;
		r->stats.skipped_bytes++;
	}
	return false;
}

bool frame_reader_next(struct frame_reader *r, struct frame *ret)
{
	struct wire_header h;

	while (find_header(r, &h)) {
		const u8 *payload = r->data + r->start + WIRE_HEADER_SIZE;

		if (r->end - r->start - WIRE_HEADER_SIZE < h.length)
			return false;
		r->start += WIRE_HEADER_SIZE + h.length;
		if (h.payload_crc != crc32_ieee(0, payload, h.length)) {
			r->stats.bad_payloads++;
		} else if (!wire_type_is_known(h.type)) {
			r->stats.unknown++;
		} else {
			r->stats.frames++;
			*ret = (struct frame){ .type = h.type, .length = h.length, .payload = payload };
			return true;
		}
	}
	return false;
}

#define ATTR(name, kind)                             \
	{                                            \
#name, ATTR_##name, ATTR_KIND_##kind \
	}

const struct attr_info attr_infos[] = {
	ATTR(VERSION, U32),
	ATTR(RELEASE, STRING),
	ATTR(REASON, STRING),
	ATTR(MESSAGE, STRING),
	ATTR(PID, U32),
	ATTR(PROGRAM, U32),
	ATTR(ARG, STRING),
	ATTR(ENV, STRING),
	ATTR(CWD, STRING),
	ATTR(CGROUP, STRING),
	ATTR(CPUS, STRING),
	ATTR(POLICY, U32),
	ATTR(PRIORITY, U32),
	ATTR(NICE, S32),
	ATTR(HAS_STDIN, FLAG),
	ATTR(STATUS, U32),
	ATTR(SIGNAL, U32),
	ATTR(STDOUT_BYTES, U64),
	ATTR(STDERR_BYTES, U64),
	ATTR(PATH, STRING),
	ATTR(OFFSET, U64),
	ATTR(LENGTH, U64),
	ATTR(CONTROL, STRING),
	ATTR(WORK, STRING),
	ATTR(COUNT, U32),
	ATTR(COUNT2, U32),
	ATTR(PARAM, PARAM),
	ATTR(GROUP, U32),
	ATTR(TIMEOUT_MS, U32),
	ATTR(CODE, S32),
	ATTR(CPU_NS, U64),
	ATTR(CPU_USED, STRING),
	ATTR(WAKE_SAMPLES, U64_ARRAY),
	ATTR(RUNTIME_NS, U64),
	ATTR(DEADLINE_NS, U64),
	ATTR(PERIOD_NS, U64),
	ATTR(RUN_ID, STRING),
	ATTR(REALTIME_NS, U64),
	ATTR(ENTROPY, U64_ARRAY),
	ATTR(KERNEL_OP, U32),
	ATTR(SYMBOL, STRING),
	ATTR(ADDRESS, U64),
	ATTR(TASK, U32),
	ATTR(CPU, U32),
	ATTR(FIELD, STRING),
	ATTR(STRUCT, STRING),
	ATTR(TYPE, STRING),
	ATTR(VALUE, U64),
	ATTR(SIGNED, U64),
	ATTR(DATA, BYTES),
	ATTR(WRITTEN, FLAG),
};

const u32 attr_info_count = ARRAY_SIZE(attr_infos);

const struct attr_info *attr_info_by_type(u32 type)
{
	return type && type <= attr_info_count ? &attr_infos[type - 1] : NULL;
}

const struct attr_info *attr_info_by_name(const char *name)
{
	for (u32 i = 0; i < attr_info_count; i++)
		if (!strcmp(attr_infos[i].name, name))
			return &attr_infos[i];
	return NULL;
}

struct attr_writer attr_writer_init(void *data, size_t capacity)
{
	return (struct attr_writer){ .data = data, .capacity = capacity };
}

static void put(struct attr_writer *w, u32 type, enum attr_kind kind, const void *value, size_t n)
{
	const struct attr_info *info = attr_info_by_type(type);
	size_t padded = ALIGN_UP(WIRE_ATTR_HEADER_SIZE + n, (size_t)4);

	if (!info || info->kind != kind || n > WIRE_ATTR_VALUE_MAX || padded > w->capacity - w->size)
		w->failed = true;
	if (w->failed)
		return;

	u16 header[2] = { (u16)(WIRE_ATTR_HEADER_SIZE + n), (u16)type };
	u8 *at = w->data + w->size;

	memcpy(at, header, sizeof(header));
	if (n)
		memcpy(at + WIRE_ATTR_HEADER_SIZE, value, n);
	memset(at + WIRE_ATTR_HEADER_SIZE + n, 0, padded - WIRE_ATTR_HEADER_SIZE - n);
	w->size += padded;
}

void attr_put_bytes(struct attr_writer *w, u32 type, const void *value, size_t n)
{
	if (n && memchr(value, 0, n))
		w->failed = true;
	put(w, type, ATTR_KIND_STRING, value, n);
}

void attr_put_string(struct attr_writer *w, u32 type, const char *value)
{
	put(w, type, ATTR_KIND_STRING, value, strlen(value));
}

void attr_put_u32(struct attr_writer *w, u32 type, u32 value)
{
	put(w, type, ATTR_KIND_U32, &value, sizeof(value));
}

void attr_put_u64(struct attr_writer *w, u32 type, u64 value)
{
	put(w, type, ATTR_KIND_U64, &value, sizeof(value));
}

void attr_put_s32(struct attr_writer *w, u32 type, s32 value)
{
	put(w, type, ATTR_KIND_S32, &value, sizeof(value));
}

void attr_put_flag(struct attr_writer *w, u32 type)
{
	put(w, type, ATTR_KIND_FLAG, NULL, 0);
}

void attr_put_param(struct attr_writer *w, u32 type, u64 index, u64 value)
{
	struct wire_param param = { index, value };

	put(w, type, ATTR_KIND_PARAM, &param, sizeof(param));
}

void attr_put_u64_array(struct attr_writer *w, u32 type, const u64 *values, size_t count)
{
	/* Checked here, since the multiplication below could wrap round to something that fits. */
	if (count > WIRE_ATTR_VALUE_MAX / sizeof(u64))
		w->failed = true;
	else
		put(w, type, ATTR_KIND_U64_ARRAY, values, count * sizeof(u64));
}

void attr_put_data(struct attr_writer *w, u32 type, const void *data, size_t n)
{
	put(w, type, ATTR_KIND_BYTES, data, n);
}

struct attr_reader attr_reader_init(const void *data, size_t size)
{
	return (struct attr_reader){ .data = data, .size = size };
}

static bool length_fits(enum attr_kind kind, const void *value, size_t n)
{
	switch (kind) {
	case ATTR_KIND_STRING:
		return !n || !memchr(value, 0, n);
	case ATTR_KIND_U32:
	case ATTR_KIND_S32:
		return n == 4;
	case ATTR_KIND_U64:
		return n == 8;
	case ATTR_KIND_FLAG:
		return n == 0;
	case ATTR_KIND_PARAM:
		return n == sizeof(struct wire_param);
	case ATTR_KIND_U64_ARRAY:
		return n % sizeof(u64) == 0;
	case ATTR_KIND_BYTES:
		return true;
	}
	return false;
}

bool attr_next(struct attr_reader *r, struct attr *ret)
{
	while (!r->malformed && r->pos < r->size) {
		size_t left = r->size - r->pos;
		u16 header[2] = { 0 };

		if (left >= WIRE_ATTR_HEADER_SIZE)
			memcpy(header, r->data + r->pos, sizeof(header));
		size_t padded = ALIGN_UP((size_t)header[0], (size_t)4);
		if (header[0] < WIRE_ATTR_HEADER_SIZE || padded > left) {
			r->malformed = true;
			return false;
		}

		*ret = (struct attr){
			.info = attr_info_by_type(header[1]),
			.value = r->data + r->pos + WIRE_ATTR_HEADER_SIZE,
			.length = header[0] - WIRE_ATTR_HEADER_SIZE,
		};
		r->pos += padded;
		if (!ret->info)
			continue;
		r->malformed = !length_fits(ret->info->kind, ret->value, ret->length);
		return !r->malformed;
	}
	return false;
}

u32 attr_u32(const struct attr *a)
{
	u32 v;

	memcpy(&v, a->value, sizeof(v));
	return v;
}

u64 attr_u64(const struct attr *a)
{
	u64 v;

	memcpy(&v, a->value, sizeof(v));
	return v;
}

s32 attr_s32(const struct attr *a)
{
	return (s32)attr_u32(a);
}

struct wire_param attr_param(const struct attr *a)
{
	struct wire_param v;

	memcpy(&v, a->value, sizeof(v));
	return v;
}

size_t attr_array_count(const struct attr *a)
{
	return a->length / sizeof(u64);
}

u64 attr_array_get(const struct attr *a, size_t i)
{
	u64 v;

	memcpy(&v, (const u8 *)a->value + i * sizeof(v), sizeof(v));
	return v;
}

bool attr_string(const struct attr *a, char *out, size_t capacity)
{
	if (a->length >= capacity)
		return false;
	memcpy(out, a->value, a->length);
	out[a->length] = 0;
	return true;
}
