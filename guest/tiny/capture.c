// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/capture.h"

#include "tiny/console.h"
#include "tiny/print.h"
#include "tiny/report.h"
#include "tiny/tiny.h"
#include "tlv/codec.h"

/* Those at TINY_CAPTURES_GPA. */
enum cell {
	CELL_SENT,
	CELL_DONE, /* the four statuses, in their order */
	CELL_BUSY,
	CELL_TIMEOUT,
	CELL_FAILED,
	CELL_STRANGE,
	CELLS,
};

static const char *const cell_names[CELLS] = { "sent", "done", "busy", "timeout", "failed", "strange" };

static volatile u64 *cells(void)
{
	return (volatile u64 *)(u64)TINY_CAPTURES_GPA;
}

static void make_request(struct wire_snapshot_request *request, u32 id, const char *tag)
{
	*request = (struct wire_snapshot_request){ .request_id = id, .kind = SNAPSHOT_CAPTURE };
	memcpy(request->tag, tag, strlen(tag));
}

static void send_request(const struct wire_snapshot_request *request, u32 size)
{
	console_send(MSG_SNAPSHOT_REQUEST, request, size);
	cells()[CELL_SENT]++;
}

static void send_numbered(u32 index)
{
	struct wire_snapshot_request request;
	char tag[24];
	struct text t = { .data = tag, .capacity = sizeof(tag) - 1 };

	text_put(&t, "t");
	text_put_number(&t, index);
	tag[t.size] = '\0';
	make_request(&request, index + 1, tag);
	send_request(&request, sizeof(request));
}

/* The next reply. False: it is no reply as there should be. reason: valid until the next call. */
static bool receive_reply(struct wire_snapshot_reply *reply, struct attr *reason)
{
	struct frame frame;

	do
		frame = console_receive();
	while (frame.type != MSG_SNAPSHOT_REPLY);
	*reason = (struct attr){ 0 };
	if (frame.length < sizeof(*reply))
		return false;
	memcpy(reply, frame.payload, sizeof(*reply));
	if (reply->status > SNAPSHOT_FAILED)
		return false;

	struct attr_reader r = attr_reader_init((const u8 *)frame.payload + sizeof(*reply),
						frame.length - sizeof(*reply));
	struct attr a;

	while (attr_next(&r, &a))
		if (a.info->type == ATTR_REASON)
			*reason = a;
	return true;
}

/* Takes a reply to one of the ids first to last that have none yet, and notes whose it was. */
static void take_reply(bool *answered, u32 first, u32 last)
{
	struct wire_snapshot_reply reply;
	struct attr reason;
	bool fits = receive_reply(&reply, &reason) && reply.request_id >= first && reply.request_id <= last;

	if (!fits || answered[reply.request_id - first]) {
		cells()[CELL_STRANGE]++;
		return;
	}
	answered[reply.request_id - first] = true;
	cells()[CELL_DONE + reply.status]++;
}

static bool report_cells(void)
{
	static struct report report;
	struct text t = report_text(&report);

	text_put(&t, "captures:");
	for (u32 i = 0; i < CELLS; i++) {
		text_put(&t, " ");
		text_put(&t, cell_names[i]);
		text_put(&t, " ");
		text_put_number(&t, (s64)cells()[i]);
	}
	text_put(&t, "\n");
	report_output(&report, &t);
	return !cells()[CELL_STRANGE];
}

bool capture_one_by_one(u32 count)
{
	for (u32 i = 0; i < count; i++) {
		bool answered = false;

		send_numbered(i);
		while (!answered)
			take_reply(&answered, i + 1, i + 1);
	}
	return report_cells();
}

bool capture_burst(u32 count)
{
	static bool answered[CAPTURE_BURST_MAX];

	if (count > CAPTURE_BURST_MAX)
		count = CAPTURE_BURST_MAX;
	for (u32 i = 0; i < count; i++)
		send_numbered(i);
	// Strange ones are one reply less that can come: the last wait would be for ever.
	for (u32 i = 0; i < count; i++)
		take_reply(answered, 1, count);
	return report_cells();
}

/* A request with a fault. */
struct fault {
	const char *name;
	u32 size; /* of what is sent; 0: as it should be */
	u32 id, kind;
	bool has_kind; /* else it is a capture */
	char tag[WIRE_TAG_SIZE];
	bool twice;
};

#define FULL_TAG "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct fault faults[] = {
	{ "a single byte", .id = 1, .tag = "x", .size = 1 },
	{ "part of an id", .id = 2, .tag = "x", .size = 3 },
	{ "an id alone", .id = 3, .tag = "x", .size = 4 },
	{ "a byte less", .id = 4, .tag = "x", .size = 71 },
	{ "a byte more", .id = 5, .tag = "x", .size = 73 },
	{ "kind 0", .id = 6, .tag = "x", .has_kind = true },
	{ "kind 99", .id = 7, .tag = "x", .has_kind = true, .kind = 99 },
	{ "a watch", .id = 8, .tag = "x", .has_kind = true, .kind = SNAPSHOT_WATCH },
	{ "no tag", .id = 9, .tag = "" },
	{ "a tag behind a NUL", .id = 10, .tag = "\0x" },
	{ "a tag with more behind its NUL", .id = 11, .tag = "x\0y" },
	{ "a tag that is not text", .id = 12, .tag = "a\x01z" },
	{ "a tag beyond ASCII", .id = 13, .tag = "a\xffz" },
	{ "a tag of 64 bytes", .id = 14, .tag = FULL_TAG },
	{ "id 0", .id = 0, .tag = "zero" },
	{ "an id twice", .id = 15, .tag = "twin", .twice = true },
};

/* One byte more than there should be has to be somewhere. */
struct large_request {
	struct wire_snapshot_request request;
	u8 more[8];
};

static void send_fault(const struct fault *f)
{
	struct large_request large = { 0 };
	u32 size = f->size ? f->size : sizeof(large.request);

	make_request(&large.request, f->id, "");
	memcpy(large.request.tag, f->tag, sizeof(f->tag));
	if (f->has_kind)
		large.request.kind = f->kind;
	for (u32 i = 0; i <= f->twice; i++)
		send_request(&large.request, size);
}

static void put_reply(struct text *t, const struct fault *f, const struct wire_snapshot_reply *reply,
		      const struct attr *reason)
{
	text_put(t, " ");
	text_put(t, cell_names[CELL_DONE + reply->status]);
	if (reply->request_id != f->id) {
		text_put(t, " for id ");
		text_put_number(t, reply->request_id);
	}
	if (!reason->length)
		return;
	text_put(t, " (");
	text_put_bytes(t, reason->value, reason->length);
	text_put(t, ")");
}

bool capture_bad(void)
{
	static struct report report;
	const u32 fence = 1000;
	struct wire_snapshot_reply reply;
	struct wire_snapshot_request good;
	struct attr reason;

	for (u32 i = 0; i < ARRAY_SIZE(faults); i++) {
		struct text t = report_text(&report);
		bool fine;

		text_put(&t, faults[i].name);
		text_put(&t, ":");
		send_fault(&faults[i]);
		make_request(&good, fence + i, "fence");
		send_request(&good, sizeof(good));
		while ((fine = receive_reply(&reply, &reason)) && reply.request_id != fence + i)
			put_reply(&t, &faults[i], &reply, &reason);
		if (!fine)
			return false;
		text_put(&t, "\n");
		report_output(&report, &t);
	}
	return true;
}
