// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <string.h>

#include "lua/bind.h"
#include "lua/wire_names.h"
#include "tlv/codec.h"

/* --- packing --- */

static double number_in(lua_State *L, const char *name, double lowest, double highest)
{
	double v = lua_tonumber(L, -1);

	if (!lua_isnumber(L, -1) || !(v >= lowest && v <= highest))
		bind_raise(L, error_create(ERROR_INVALID, "attribute %s takes a number from %.0f to %.0f", name,
					   lowest, highest));
	return v;
}

static double param_part(lua_State *L, int i)
{
	lua_rawgeti(L, -1, i);

	double v = number_in(L, "PARAM", 0, 0x1p53);

	lua_pop(L, 1);
	return v;
}

/* An array travels as a string of its bytes: a number of Lua's could not hold every element. */
static void put_array(lua_State *L, struct attr_writer *w, const struct attr_info *info)
{
	size_t n = 1;
	const char *bytes = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &n) : NULL;

	if (!bytes || n % sizeof(u64))
		bind_raise(L, error_create(ERROR_INVALID, "attribute %s takes a string of 8 bytes an element",
					   info->name));

	u64 *values = lua_newuserdata(L, n ? n : 1);

	memcpy(values, bytes, n);
	attr_put_u64_array(w, info->type, values, n / sizeof(u64));
	lua_pop(L, 1);
}

/* A string is its eight bytes: a number of Lua's could not hold every value. */
static u64 u64_in(lua_State *L, const char *name)
{
	size_t n = 0;
	const char *bytes = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &n) : NULL;
	u64 value;

	// A time of day in nanoseconds is beyond what a double counts one by one, and close enough.
	if (!bytes || n != sizeof(value))
		return (u64)number_in(L, name, 0, 0x1p63);
	memcpy(&value, bytes, n);
	return value;
}

/* The value is on top of the stack. */
static void put_attr(lua_State *L, struct attr_writer *w, const struct attr_info *info)
{
	size_t n;
	const char *text;

	switch (info->kind) {
	case ATTR_KIND_STRING:
		text = lua_tolstring(L, -1, &n);
		if (!text || memchr(text, 0, n))
			bind_raise(L, error_create(ERROR_INVALID, "attribute %s takes a string without NULs",
						   info->name));
		attr_put_bytes(w, info->type, text, n);
		break;
	case ATTR_KIND_U32:
		attr_put_u32(w, info->type, (u32)number_in(L, info->name, 0, UINT32_MAX));
		break;
	case ATTR_KIND_S32:
		attr_put_s32(w, info->type, (s32)number_in(L, info->name, INT32_MIN, INT32_MAX));
		break;
	case ATTR_KIND_U64:
		attr_put_u64(w, info->type, u64_in(L, info->name));
		break;
	case ATTR_KIND_FLAG:
		if (lua_toboolean(L, -1))
			attr_put_flag(w, info->type);
		break;
	case ATTR_KIND_PARAM:
		luaL_checktype(L, -1, LUA_TTABLE);
		attr_put_param(w, info->type, (u64)param_part(L, 1), (u64)param_part(L, 2));
		break;
	case ATTR_KIND_U64_ARRAY:
		put_array(L, w, info);
		break;
	case ATTR_KIND_BYTES:
		text = lua_tolstring(L, -1, &n);
		if (!text)
			bind_raise(L, error_create(ERROR_INVALID, "attribute %s takes a string", info->name));
		attr_put_data(w, info->type, text, n);
		break;
	}
}

static int wire_pack(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);

	// Lua owns the memory, so an error raised half-way loses nothing.
	struct attr_writer w = attr_writer_init(lua_newuserdata(L, WIRE_PAYLOAD_MAX), WIRE_PAYLOAD_MAX);

	for (int i = 1; i <= (int)lua_objlen(L, 1); i++) {
		lua_rawgeti(L, 1, i);
		luaL_checktype(L, -1, LUA_TTABLE);
		lua_rawgeti(L, -1, 1);

		const char *name = luaL_checkstring(L, -1);
		const struct attr_info *info = attr_info_by_name(name);

		if (!info)
			bind_raise(L, error_create(ERROR_INVALID, "there is no attribute %s", name));
		lua_rawgeti(L, -2, 2);
		put_attr(L, &w, info);
		lua_pop(L, 3);
	}
	if (w.failed)
		bind_raise(L, error_create(ERROR_INVALID, "attributes are too long: a value holds at most %d "
							  "bytes, a message %d",
					   WIRE_ATTR_VALUE_MAX, WIRE_PAYLOAD_MAX));
	lua_pushlstring(L, (const char *)w.data, w.size);
	return 1;
}

static int wire_op_request(lua_State *L)
{
	struct wire_op_request head = {
		.request_id = bind_check_u32(L, 1),
		.op = bind_check_u32(L, 2),
	};

	luaL_checkstring(L, 3);
	lua_pushlstring(L, (const char *)&head, sizeof(head));
	lua_pushvalue(L, 3);
	lua_concat(L, 2);
	return 1;
}

static int wire_write_head(lua_State *L)
{
	size_t n;
	const char *path = luaL_checklstring(L, 1, &n);
	struct wire_write head = {
		.offset = bind_check_offset(L, 2),
		.mode = bind_check_u32(L, 3),
		.flags = (u16)bind_check_u32(L, 4),
		.path_length = (u16)n,
	};

	if (!n || n > UINT16_MAX || memchr(path, 0, n))
		bind_raise(L, error_create(ERROR_INVALID, "a path has 1 to %d bytes, none of them NUL",
					   UINT16_MAX));
	lua_pushlstring(L, (const char *)&head, sizeof(head));
	lua_pushvalue(L, 1);
	lua_concat(L, 2);
	return 1;
}

static int wire_output_head(lua_State *L)
{
	struct wire_output head = { .program = bind_check_u32(L, 1) };

	lua_pushlstring(L, (const char *)&head, sizeof(head));
	return 1;
}

/* --- unpacking --- */

static void push_value(lua_State *L, const struct attr *a)
{
	struct wire_param p;

	switch (a->info->kind) {
	case ATTR_KIND_STRING:
	case ATTR_KIND_BYTES:
		lua_pushlstring(L, a->value, a->length);
		break;
	case ATTR_KIND_U32:
		lua_pushnumber(L, attr_u32(a));
		break;
	case ATTR_KIND_S32:
		lua_pushnumber(L, attr_s32(a));
		break;
	case ATTR_KIND_U64:
		lua_pushnumber(L, (double)attr_u64(a));
		break;
	case ATTR_KIND_PARAM:
		p = attr_param(a);
		lua_createtable(L, 2, 0);
		lua_pushnumber(L, (double)p.index);
		lua_rawseti(L, -2, 1);
		lua_pushnumber(L, (double)p.value);
		lua_rawseti(L, -2, 2);
		break;
	case ATTR_KIND_U64_ARRAY:
		lua_createtable(L, (int)attr_array_count(a), 0);
		for (size_t i = 0; i < attr_array_count(a); i++) {
			lua_pushnumber(L, (double)attr_array_get(a, i));
			lua_rawseti(L, -2, (int)i + 1);
		}
		break;
	default:
		lua_pushboolean(L, true);
	}
}

static int wire_unpack(lua_State *L)
{
	size_t n;
	const char *bytes = luaL_checklstring(L, 1, &n);
	struct attr_reader r = attr_reader_init(bytes, n);
	struct attr a;
	int count = 0;

	lua_newtable(L);
	while (attr_next(&r, &a)) {
		lua_createtable(L, 2, 0);
		lua_pushstring(L, a.info->name);
		lua_rawseti(L, -2, 1);
		push_value(L, &a);
		lua_rawseti(L, -2, 2);
		lua_rawseti(L, -2, ++count);
	}
	if (r.malformed)
		bind_raise(L, error_create(ERROR_FORMAT, "the guest sent malformed attributes"));
	return 1;
}

/* --- frames by type: each decoder leaves a table on the stack, or returns what is wrong --- */

static void set_number(lua_State *L, const char *name, double v)
{
	lua_pushnumber(L, v);
	lua_setfield(L, -2, name);
}

/* Sets field name of the table on top to each attribute of that type; the last one counts. */
struct attr_field {
	u32 type;
	const char *name;
};

static const char *decode_attrs(lua_State *L, const void *data, size_t n, const struct attr_field *fields,
				size_t count)
{
	struct attr_reader r = attr_reader_init(data, n);
	struct attr a;

	while (attr_next(&r, &a)) {
		for (size_t i = 0; i < count; i++) {
			if (fields[i].type != a.info->type)
				continue;
			push_value(L, &a);
			lua_setfield(L, -2, fields[i].name);
		}
	}
	return r.malformed ? "malformed attributes" : NULL;
}

static const char *decode_op_reply(lua_State *L, const u8 *data, size_t n)
{
	struct wire_op_reply head;

	if (n < sizeof(head))
		return "cut short";
	memcpy(&head, data, sizeof(head));
	lua_newtable(L);
	set_number(L, "id", head.request_id);
	set_number(L, "error", head.error);
	if (head.error) {
		lua_pushstring(L, strerror((int)head.error));
		lua_setfield(L, -2, "strerror");
	}
	lua_pushlstring(L, (const char *)data + sizeof(head), n - sizeof(head));
	lua_setfield(L, -2, "body");
	return NULL;
}

static const char *decode_exit(lua_State *L, const u8 *data, size_t n)
{
	struct wire_exit e;

	if (n != sizeof(e))
		return "wrong length";
	memcpy(&e, data, sizeof(e));
	lua_newtable(L);
	set_number(L, "code", e.code);
	return NULL;
}

static const char *decode_output(lua_State *L, const u8 *data, size_t n)
{
	struct wire_output head;

	if (n < sizeof(head))
		return "cut short";
	memcpy(&head, data, sizeof(head));
	lua_newtable(L);
	set_number(L, "program", head.program);
	lua_pushlstring(L, (const char *)data + sizeof(head), n - sizeof(head));
	lua_setfield(L, -2, "data");
	return NULL;
}

static const char *decode_sys_rdy(lua_State *L, const u8 *data, size_t n)
{
	static const struct attr_field fields[] = {
		{ ATTR_VERSION, "version" },
		{ ATTR_RELEASE, "release" },
		{ ATTR_PID, "pid" },
		{ ATTR_RUN_ID, "run_id" },
	};

	lua_newtable(L);
	return decode_attrs(L, data, n, fields, ARRAY_SIZE(fields));
}

static const char *decode_lifecycle(lua_State *L, const u8 *data, size_t n)
{
	static const struct attr_field fields[] = { { ATTR_REASON, "reason" } };
	struct wire_lifecycle head;

	if (n < sizeof(head))
		return "cut short";
	memcpy(&head, data, sizeof(head));
	lua_newtable(L);
	set_number(L, "phase", head.phase);
	return decode_attrs(L, data + sizeof(head), n - sizeof(head), fields, ARRAY_SIZE(fields));
}

static const char *decode_snapshot_request(lua_State *L, const u8 *data, size_t n)
{
	struct wire_snapshot_request s;

	if (n != sizeof(s))
		return "wrong length";
	memcpy(&s, data, sizeof(s));
	lua_newtable(L);
	set_number(L, "id", s.request_id);
	set_number(L, "kind", s.kind);
	lua_pushlstring(L, s.tag, strnlen(s.tag, sizeof(s.tag)));
	lua_setfield(L, -2, "tag");
	return NULL;
}

/* What the coordinator makes of a request: the number that it gave it, and the payload as it came. */
static const char *decode_kernel_op_request(lua_State *L, const u8 *data, size_t n)
{
	u64 token;

	if (n < sizeof(token))
		return "cut short";
	memcpy(&token, data, sizeof(token));
	lua_newtable(L);
	set_number(L, "token", (double)token);
	lua_pushlstring(L, (const char *)data + sizeof(token), n - sizeof(token));
	lua_setfield(L, -2, "payload");
	return NULL;
}

static void set_known(lua_State *L, const char *name, u64 v)
{
	if (v != WIRE_UNKNOWN)
		set_number(L, name, (double)v);
}

static const char *decode_worker_report(lua_State *L, const u8 *data, size_t n)
{
	static const struct attr_field fields[] = {
		{ ATTR_CPU_USED, "cpus_used" },
		{ ATTR_WAKE_SAMPLES, "wake_samples" },
		{ ATTR_REASON, "reason" },
	};
	struct wire_worker_report r;

	if (n < sizeof(r))
		return "cut short";
	memcpy(&r, data, sizeof(r));
	lua_newtable(L);
	set_number(L, "group", r.group);
	set_number(L, "index", r.index);
	set_number(L, "pid", r.pid);
	lua_pushboolean(L, r.flags & REPORT_KILLED);
	lua_setfield(L, -2, "killed");
	lua_pushboolean(L, r.flags & REPORT_FAILED);
	lua_setfield(L, -2, "failed");
	set_known(L, "work_units", r.work_units);
	set_known(L, "iterations", r.iterations);
	set_known(L, "wall_ns", r.wall_ns);
	set_known(L, "cpu_ns", r.cpu_ns);
	set_known(L, "run_delay_ns", r.run_delay_ns);
	set_known(L, "blocked_ns", r.blocked_ns);
	set_known(L, "migrations", r.migrations);
	set_known(L, "max_gap_ns", r.max_gap_ns);
	set_known(L, "max_gap_at_ns", r.max_gap_at_ns);
	set_number(L, "max_gap_cpu", r.max_gap_cpu);
	set_known(L, "wakes", (u64)r.wake_count_high << 32 | r.wake_count_low);
	return decode_attrs(L, data + sizeof(r), n - sizeof(r), fields, ARRAY_SIZE(fields));
}

static int wire_decode(lua_State *L)
{
	static const struct {
		u32 type;
		const char *(*decode)(lua_State *L, const u8 *data, size_t n);
	} decoders[] = {
		{ MSG_OP_REPLY, decode_op_reply },
		{ MSG_EXIT, decode_exit },
		{ MSG_STDOUT, decode_output },
		{ MSG_STDERR, decode_output },
		{ MSG_SYS_RDY, decode_sys_rdy },
		{ MSG_LIFECYCLE, decode_lifecycle },
		{ MSG_WORKER_REPORT, decode_worker_report },
		{ MSG_SNAPSHOT_REQUEST, decode_snapshot_request },
		{ MSG_KERNEL_OP_REQUEST, decode_kernel_op_request },
	};
	u32 type = bind_check_u32(L, 1);
	size_t n;
	const u8 *data = (const u8 *)luaL_checklstring(L, 2, &n);

	for (size_t i = 0; i < ARRAY_SIZE(decoders); i++) {
		if (decoders[i].type != type)
			continue;

		const char *wrong = decoders[i].decode(L, data, n);

		if (!wrong)
			return 1;
		lua_pushnil(L);
		lua_pushstring(L, wrong);
		return 2;
	}
	lua_pushnil(L);
	lua_pushliteral(L, "its type has no decoder");
	return 2;
}

void bind_wire(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "pack", wire_pack },
		{ "unpack", wire_unpack },
		{ "op_request", wire_op_request },
		{ "write_head", wire_write_head },
		{ "output_head", wire_output_head },
		{ "decode", wire_decode },
		{ NULL, NULL },
	};

	lua_newtable(L);
	luaL_register(L, NULL, functions);
#define ADD_NAME(name) (lua_pushnumber(L, name), lua_setfield(L, -2, #name));
	WIRE_NAMES(ADD_NAME)
#undef ADD_NAME
	lua_setfield(L, -2, "wire");
}
