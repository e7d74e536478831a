// SPDX-License-Identifier: GPL-2.0-or-later
#include "tiny/kernel_op.h"

#include "tiny/console.h"
#include "tiny/print.h"
#include "tiny/report.h"
#include "tlv/codec.h"

enum { REQUEST_SIZE = 256 };

/* What became of the requests, by status; then replies that are not as they should be. */
enum cell { CELL_DONE,
	    CELL_BUSY,
	    CELL_TIMEOUT,
	    CELL_FAILED,
	    CELL_STRANGE,
	    CELLS };

static const char *const cell_names[CELLS] = { "done", "busy", "timeout", "failed", "strange" };
static u32 cells[CELLS];

/* What is written and read. */
static volatile u64 word;

struct request {
	u8 data[REQUEST_SIZE];
	struct attr_writer w;
};

static void begin(struct request *r, u32 id, u32 flags)
{
	struct wire_kernel_op_request head = { .request_id = id, .flags = flags };

	memcpy(r->data, &head, sizeof(head));
	r->w = attr_writer_init(r->data + sizeof(head), sizeof(r->data) - sizeof(head));
}

static void put_entry(struct request *r, u32 op)
{
	attr_put_u32(&r->w, ATTR_KERNEL_OP, op);
	attr_put_u64(&r->w, ATTR_ADDRESS, (u64)&word);
	attr_put_string(&r->w, ATTR_TYPE, "u64");
}

static void send(const struct request *r)
{
	console_send(MSG_KERNEL_OP_REQUEST, r->data, (u32)(sizeof(struct wire_kernel_op_request) + r->w.size));
}

/* Value of an id: that of no other. */
static u64 value_of(u32 id)
{
	return 0x100000001ULL * id;
}

static void send_numbered(u32 id)
{
	struct request r;

	begin(&r, id, id % 2 ? KERNEL_OP_COLD : 0);
	put_entry(&r, KERNEL_OP_WRITE);
	attr_put_u64(&r.w, ATTR_VALUE, value_of(id));
	put_entry(&r, KERNEL_OP_READ);
	send(&r);
}

struct reply {
	struct wire_kernel_op_reply head;
	u32 written; /* entries */
	u64 value; /* the last one that was read */
	struct attr reason; /* valid until the next reply */
};

/* False: it is none as there should be. */
static bool receive(struct reply *reply)
{
	struct frame frame;

	do
		frame = console_receive();
	while (frame.type != MSG_KERNEL_OP_REPLY);
	*reply = (struct reply){ 0 };
	if (frame.length < sizeof(reply->head))
		return false;
	memcpy(&reply->head, frame.payload, sizeof(reply->head));

	struct attr_reader r = attr_reader_init((const u8 *)frame.payload + sizeof(reply->head),
						frame.length - sizeof(reply->head));
	struct attr a;

	while (attr_next(&r, &a)) {
		if (a.info->type == ATTR_VALUE)
			reply->value = attr_u64(&a);
		else if (a.info->type == ATTR_WRITTEN)
			reply->written++;
		else if (a.info->type == ATTR_REASON)
			reply->reason = a;
	}
	return !r.malformed && reply->head.status <= KERNEL_OP_FAILED;
}

static bool is_right(const struct reply *reply)
{
	if (reply->head.status != KERNEL_OP_DONE)
		return reply->head.done == 0 && reply->reason.length;
	return reply->head.done == 2 && reply->written == 1 && reply->value == value_of(reply->head.request_id);
}

/* Takes a reply to one of the ids first to last that have none yet. */
static void take_reply(bool *answered, u32 first, u32 last)
{
	struct reply reply;
	u32 id;

	if (!receive(&reply) || !is_right(&reply) || reply.head.request_id < first || reply.head.request_id > last) {
		cells[CELL_STRANGE]++;
		return;
	}
	id = reply.head.request_id;
	cells[answered[id - first] ? CELL_STRANGE : reply.head.status]++;
	answered[id - first] = true;
}

static bool report_cells(void)
{
	static struct report report;
	struct text t = report_text(&report);

	text_put(&t, "kernel-ops:");
	for (u32 i = 0; i < CELLS; i++) {
		text_put(&t, " ");
		text_put(&t, cell_names[i]);
		text_put(&t, " ");
		text_put_number(&t, cells[i]);
	}
	text_put(&t, "\n");
	report_output(&report, &t);
	return !cells[CELL_STRANGE];
}

bool kernel_op_one_by_one(u32 count)
{
	for (u32 id = 1; id <= count; id++) {
		bool answered = false;

		send_numbered(id);
		while (!answered)
			take_reply(&answered, id, id);
		// Nobody else writes there.
		if (cells[CELL_DONE] == id && word != value_of(id))
			cells[CELL_STRANGE]++;
	}
	return report_cells();
}

bool kernel_op_burst(u32 count)
{
	static bool answered[KERNEL_OP_BURST_MAX];

	if (count > KERNEL_OP_BURST_MAX)
		count = KERNEL_OP_BURST_MAX;
	for (u32 id = 1; id <= count; id++)
		send_numbered(id);
	for (u32 i = 0; i < count; i++)
		take_reply(answered, 1, count);
	return report_cells();
}

/* --- requests with a fault --- */

static void make_empty(struct request *r)
{
}

static void make_headless(struct request *r)
{
	attr_put_string(&r->w, ATTR_SYMBOL, "x");
}

static void make_placeless(struct request *r)
{
	attr_put_u32(&r->w, ATTR_KERNEL_OP, KERNEL_OP_READ);
}

static void make_ambiguous(struct request *r)
{
	put_entry(r, KERNEL_OP_READ);
	attr_put_string(&r->w, ATTR_SYMBOL, "x");
}

static void make_valueless(struct request *r)
{
	put_entry(r, KERNEL_OP_WRITE);
}

static void make_greedy(struct request *r)
{
	put_entry(r, KERNEL_OP_READ);
	attr_put_u64(&r->w, ATTR_LENGTH, UINT64_MAX);
}

static void make_cut(struct request *r)
{
	put_entry(r, KERNEL_OP_READ);
	r->w.size -= 4;
}

static void make_wild(struct request *r)
{
	attr_put_u32(&r->w, ATTR_KERNEL_OP, KERNEL_OP_READ);
	attr_put_u64(&r->w, ATTR_ADDRESS, 0xffffdead00000000);
	attr_put_string(&r->w, ATTR_TYPE, "u64");
}

static void make_unknown(struct request *r)
{
	attr_put_u32(&r->w, ATTR_KERNEL_OP, KERNEL_OP_READ);
	attr_put_string(&r->w, ATTR_SYMBOL, "no_such_symbol");
	attr_put_string(&r->w, ATTR_TYPE, "u64");
}

/* Its last attribute is longer than all that there is. */
static void make_lying(struct request *r)
{
	const u16 length = UINT16_MAX;

	put_entry(r, KERNEL_OP_READ);
	memcpy(r->w.data + r->w.size - 8, &length, sizeof(length));
}

/* "u64" with a NUL in it. */
static void make_nul(struct request *r)
{
	put_entry(r, KERNEL_OP_READ);
	r->w.data[r->w.size - 3] = 0;
}

static void make_strange(struct request *r)
{
	put_entry(r, 9);
}

static void make_long_name(struct request *r)
{
	char name[KERNEL_OP_STRUCT_MAX + 1];

	put_entry(r, KERNEL_OP_READ);
	memset(name, 'n', sizeof(name));
	attr_put_bytes(&r->w, ATTR_STRUCT, name, sizeof(name));
}

static void make_torn(struct request *r)
{
	attr_put_u32(&r->w, ATTR_KERNEL_OP, KERNEL_OP_WRITE);
	attr_put_u64(&r->w, ATTR_ADDRESS, (u64)&word + 1);
	attr_put_string(&r->w, ATTR_TYPE, "u64");
	attr_put_u64(&r->w, ATTR_VALUE, 0);
}

static void (*const faults[])(struct request *r) = {
	make_empty,
	make_headless,
	make_placeless,
	make_ambiguous,
	make_valueless,
	make_greedy,
	make_cut,
	make_wild,
	make_unknown,
	make_lying,
	make_nul,
	make_strange,
	make_long_name,
	make_torn,
};

/* One by one, with a good one behind each: that is carried out. */
bool kernel_op_bad(void)
{
	static struct report report;

	for (u32 i = 0; i < ARRAY_SIZE(faults); i++) {
		struct text t = report_text(&report);
		struct request r;
		struct reply reply;

		begin(&r, 1000 + i, 0);
		faults[i](&r);
		send(&r);
		if (!receive(&reply) || reply.head.request_id != 1000 + i || reply.head.status != KERNEL_OP_FAILED)
			return false;
		text_put_bytes(&t, reply.reason.value, reply.reason.length);
		text_put(&t, "\n");
		send_numbered(i + 1);
		if (!receive(&reply) || !is_right(&reply) || reply.head.status != KERNEL_OP_DONE)
			return false;
		report_output(&report, &t);
	}
	return true;
}
