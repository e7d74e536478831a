-- The C functions that Lua calls by LuaJIT's FFI, as the headers of core/ declare them: a spec compares each
-- declaration with its header. Only the program itself has them: not a plain LuaJIT.
local ffi = require "ffi"
local errors = require "ktstr.errors"

local c = {}

--- What is declared, by header. Whoever needs more adds it here, word for word.
c.declarations = {
  ["base/types.h"] = [[
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
]],

  ["base/error.h"] = [[
enum error_code {
	ERROR_NO_MEMORY,
	ERROR_OS,
	ERROR_INVALID,
	ERROR_FORMAT,
	ERROR_NOT_FOUND,
	ERROR_UNSUPPORTED,
	ERROR_TIMEOUT,
	ERROR_BUSY,
	ERROR_ENDED,
	ERROR_INTERRUPTED,
	ERROR_FROZEN,
	ERROR_RUNNING,
	ERROR_UNMAPPED,
	ERROR_FREEZE_LIMIT,
};
struct error;
enum error_code error_code(const struct error *err);
const char *error_code_name(enum error_code code);
const char *error_message(const struct error *err);
const char *error_hint(const struct error *err);
void error_destroy(struct error *err);
]],

  ["base/buf.h"] = [[
struct buf {
	u8 *data;
	size_t size;
	size_t capacity;
	bool failed;
};
void buf_deinit(struct buf *b);
struct error *buf_check(const struct buf *b);
]],

  ["image/kernel.h"] = [[
struct kernel_image;
struct error *kernel_image_open(const char *path, struct kernel_image **ret);
void kernel_image_close(struct kernel_image *image);
int kernel_image_fd(const struct kernel_image *image);
u64 kernel_image_size(const struct kernel_image *image);
]],

  ["kernel/symbols.h"] = [[
struct symbol {
	u64 address;
	const char *name;
	char kind;
	bool moves;
};
struct symbols;
struct error *symbols_create(const struct kernel_image *image, struct symbols **ret);
void symbols_destroy(struct symbols *s);
struct error *symbols_open(int fd, struct symbols **ret);
struct error *symbols_write(const struct symbols *s, int fd);
u32 symbols_count(const struct symbols *s);
struct symbol symbols_get(const struct symbols *s, u32 index);
u32 symbols_find(const struct symbols *s, const char *name, u32 *first);
struct symbol symbols_named(const struct symbols *s, u32 place);
u32 symbols_from(const struct symbols *s, const char *prefix);
bool symbols_at(const struct symbols *s, u64 address, struct symbol *ret, u64 *end);
]],

  ["kernel/types.h"] = [[
struct types;
enum type_kind {
	TYPE_VOID,
	TYPE_INT,
	TYPE_FLOAT,
	TYPE_POINTER,
	TYPE_ARRAY,
	TYPE_STRUCT,
	TYPE_UNION,
	TYPE_ENUM,
	TYPE_FORWARD,
	TYPE_FUNCTION,
	TYPE_VARIABLE,
};
enum type_flags {
	TYPE_SIGNED = 1 << 0,
	TYPE_BOOL = 1 << 1,
	TYPE_CHAR = 1 << 2,
	TYPE_PERCPU = 1 << 3,
	TYPE_USER = 1 << 4,
};
struct type_info {
	u32 id;
	enum type_kind kind;
	u32 flags;
	u64 size;
	u32 target;
	u32 count;
	const char *name;
};
struct type_member {
	const char *name;
	u32 type;
	u64 offset;
	u32 bits;
};
struct error *types_create(const void *blob, size_t size, const struct types *base, struct types **ret);
struct error *types_create_image(const struct kernel_image *image, struct types **ret);
void types_destroy(struct types *t);
struct error *types_open(int fd, struct types **ret);
struct error *types_write(const struct types *t, int fd);
u32 types_first(const struct types *t);
u32 types_end(const struct types *t);
u32 types_find(const struct types *t, const char *name, u32 *ids, u32 max);
struct error *types_parse(const struct types *t, const char *text, u32 *ret);
struct error *types_list_from(const struct types *t, const char *prefix, u32 most, struct buf *out);
u32 types_find_variable(const struct types *t, const char *name);
u32 types_find_function(const struct types *t, const char *name);
struct error *types_info(const struct types *t, u32 id, struct type_info *ret);
struct error *types_get_member(const struct types *t, u32 id, u32 index, struct type_member *ret);
struct error *types_find_member(const struct types *t, u32 id, const char *name,
				struct type_member *ret);
struct error *types_get_value(const struct types *t, u32 id, u32 index, const char **name, s64 *value);
struct error *types_find_value(const struct types *t, const char *name, u32 *type, s64 *value);
struct error *types_get_parameter(const struct types *t, u32 id, u32 index, const char **name, u32 *type);
struct error *types_name(const struct types *t, u32 id, struct buf *out);
struct error *types_define(const struct types *t, u32 id, struct buf *out);
]],

  ["kernel/view.h"] = [[
struct guest_memory;
struct view_range {
	u64 start, size;
	u64 gpa;
	u8 *hva;
};
enum { VIEW_RANGES = 3 };
struct view_segment {
	u64 address, size;
	const u8 *data;
};
struct view {
	const struct guest_memory *memory;
	u32 generation;
	u32 frozen;
	u64 root;
	u32 levels;
	u32 expirations;
	const u32 *expirations_now;
	u64 slide;
	struct view_range ranges[VIEW_RANGES];
	const struct view_segment *segments;
	u32 segment_count;
	u32 recorded;
	const struct view_cover *cover;
};
struct view_place {
	u64 gpa;
	u8 *hva;
	u64 left;
	u32 page_shift;
};
void view_init_recorded(struct view *v, const struct view_segment *segments, u32 count, u64 slide);
struct error *view_set_root(struct view *v, u64 address);
struct error *view_set_direct_map(struct view *v, u64 start);
struct error *view_translate(const struct view *v, u64 root, u64 address, bool walk,
			     struct view_place *ret);
u64 view_gap(const struct view *v, u64 address);
struct error *view_read(const struct view *v, u64 root, u64 address, void *data, size_t size);
struct error *view_write(const struct view *v, u64 root, u64 address, const void *data, size_t size);
struct error *view_read_scalar(const struct view *v, u64 address, u32 size, u64 *ret);
struct error *view_write_scalar(const struct view *v, u64 address, u32 size, u64 value);
struct error *view_read_string(const struct view *v, u64 root, u64 address, char *data, size_t max,
			       size_t *length);
]],

  ["kernel/orc.h"] = [[
struct orc_field {
	u32 offset, bits;
};
struct orc_layout {
	u32 size;
	struct orc_field sp_offset, bp_offset, sp_reg, bp_reg, type;
	struct orc_field signal;
	struct orc_field end;
};
struct orc;
struct error *orc_create(const void *ips, u64 ips_address, const void *entries, u32 count,
			 const struct orc_layout *layout, struct orc **ret);
void orc_destroy(struct orc *orc);
]],

  ["kernel/unwind.h"] = [[
enum {
	UNWIND_FRAMES = 128,
	UNWIND_STEP = 16 << 10,
	UNWIND_SWITCHES = 8,
};
struct unwind_table {
	const struct orc *orc;
	u64 slide;
};
struct unwind_stack {
	u64 start, end;
};
enum unwind_flags {
	UNWIND_RETURN = 1 << 0,
	UNWIND_SIGNAL = 1 << 1,
	UNWIND_GUESSED = 1 << 2,
	UNWIND_TRACED = 1 << 3,
};
struct unwind_frame {
	u64 address;
	u64 sp;
	u64 regs;
	u32 flags;
	u32 reserved;
};
enum unwind_end {
	UNWIND_USER,
	UNWIND_BOTTOM,
	UNWIND_MANY,
	UNWIND_NO_TABLE,
	UNWIND_NO_REGISTER,
	UNWIND_NO_CODE,
	UNWIND_NO_STACK,
	UNWIND_UNMAPPED,
	UNWIND_LOOP,
	UNWIND_REPLACED,
};
struct unwind_return {
	u64 at, address;
};
struct unwind_start {
	u64 ip, sp, bp;
	u64 ax, dx, di, r10, r13;
	bool has_all;
	bool user;
	bool returns;
	bool entered;
};
struct unwind {
	const struct view *view;
	const struct unwind_table *tables;
	u32 table_count;
	u32 stack_count;
	const struct unwind_stack *stacks;
	const u64 *trampolines;
	const struct unwind_return *returns;
	u32 trampoline_count, return_count;
};
struct unwind_result {
	u32 count;
	enum unwind_end end;
	u64 at;
	u64 user_regs;
	struct unwind_frame frames[UNWIND_FRAMES];
};
void unwind_stack(const struct unwind *u, const struct unwind_start *start, struct unwind_result *ret);
const char *unwind_end_text(enum unwind_end end);
]],

  ["kernel/disasm.h"] = [[
enum { INSTRUCTION_TEXT = 200,
       INSTRUCTION_MAX = 15 };
struct instruction {
	u64 address;
	u64 target;
	u64 memory;
	u32 length;
	bool valid;
	u8 bytes[INSTRUCTION_MAX];
	char text[INSTRUCTION_TEXT];
};
struct disassembler;
struct error *disassembler_create(struct disassembler **ret);
void disassembler_destroy(struct disassembler *d);
u32 disassembler_run(struct disassembler *d, const void *bytes, size_t size, u64 address,
		     struct instruction *ret, u32 max);
]],

  ["tlv/wire.h"] = [[
enum {
	KERNEL_OP_REQUEST_MAX = 64 << 10,
	KERNEL_OP_ENTRIES_MAX = 1024,
	KERNEL_OP_BYTES_MAX = 32 << 10,
	KERNEL_OP_SYMBOL_MAX = 511,
	KERNEL_OP_FIELD_MAX = 255,
	KERNEL_OP_STRUCT_MAX = 127,
	KERNEL_OP_TYPE_MAX = 7,
};
struct wire_kernel_op_reply {
	u32 request_id;
	u32 status;
	u32 done;
};
]],

  ["kernel/pid.h"] = [[
struct pid_layout {
	u64 head;
	u64 base;
	u32 node_shift, node_slots;
	u32 slot_bits;
	u32 pid_tasks;
	u32 task_links;
	u32 task_pid;
};
]],

  ["kernel/ops.h"] = [[
struct op_step {
	u64 offset;
	u32 per_cpu;
	u32 reserved;
};
enum op_base {
	OP_BASE_ADDRESS,
	OP_BASE_PER_CPU,
	OP_BASE_TASK,
};
struct op {
	u64 start;
	u64 offset;
	u64 value;
	u32 cpu;
	u32 pid;
	u32 first_step;
	u32 size;
	u32 data;
	u16 steps;
	u8 op;
	u8 base;
	u8 is_bytes;
	u8 shift, bits;
	u8 reserved[5];
};
struct op_layout {
	u64 offsets;
	u64 unset;
	u32 cpus;
	u32 reserved;
	struct pid_layout pids;
};
struct op_batch {
	struct op_layout layout;
	const struct op *ops;
	const struct op_step *steps;
	u32 count, step_count;
	u8 *data;
	u64 data_size;
	bool frozen;
	u64 *values;
	u32 done;
	struct error *err;
};
struct error *op_batch_check(const struct op_batch *b);
void op_batch_run(struct op_batch *b, const struct view *view);
]],

  ["tlv/codec.h"] = [[
struct attr_info;
struct attr_reader {
	const u8 *data;
	size_t size;
	size_t pos;
	bool malformed;
};
struct attr {
	const struct attr_info *info;
	const void *value;
	size_t length;
};
]],

  ["kernel/op_request.h"] = [[
struct op_request {
	u32 request_id;
	bool cold;
	u32 count;
	struct attr_reader entries;
	struct attr next;
};
enum op_where {
	OP_AT_SYMBOL = 1,
	OP_AT_ADDRESS,
	OP_AT_TASK,
};
struct op_entry {
	u32 op;
	u32 where;
	bool has_cpu, has_value, has_data, has_length;
	u32 cpu, pid;
	u64 address, value, length;
	const u8 *data;
	u64 data_size;
	char symbol[KERNEL_OP_SYMBOL_MAX + 1];
	char field[KERNEL_OP_FIELD_MAX + 1];
	char structure[KERNEL_OP_STRUCT_MAX + 1];
	char type[KERNEL_OP_TYPE_MAX + 1];
};
struct error *op_request_open(const void *payload, size_t size, struct op_request *ret);
bool op_request_next(struct op_request *r, struct op_entry *ret);
]],

  ["kernel/lines.h"] = [[
enum { LINE_PLACES = 32 };
struct line_place {
	const char *function;
	const char *file;
	u32 line;
	u32 column;
};
struct lines;
struct error *lines_open(const char *path, const void *build_id, size_t build_id_size, struct lines **ret);
void lines_close(struct lines *l);
struct error *lines_find(struct lines *l, u64 address, struct line_place *places, u32 *count);
]],

  ["coordinator/monitor.h"] = [[
struct monitor_step {
	u64 offset;
	u32 per_cpu;
	u32 reserved;
};
struct monitor_cell {
	u64 start;
	u64 offset;
	u32 cpu;
	u32 value;
	u32 first_step;
	u16 steps;
	u8 size;
	u8 flags;
};
struct monitor_program {
	u64 offsets;
	u64 unset;
	u32 cpus;
	u32 values;
};
struct monitor_sample {
	u64 number;
	u64 host_ns;
	u64 elapsed_ns;
	u32 epoch;
	u32 spent_ns;
};
struct monitor_cpu {
	u64 ran_ns;
	u32 state;
	u32 reserved;
};
]],

  ["capture/record.h"] = [[
struct record {
	u32 users;
	u32 segment_count;
	struct view_segment *segments;
	u8 *data;
	u64 capacity, size;
	struct buf notes;
	u32 steps;
	u32 plan_id;
	u64 spent_ns;
	u64 slide;
	bool is_cut;
};
struct record *record_get(struct record *r);
void record_put(struct record *r);
void record_open_view(const struct record *r, struct view *ret);
]],

  ["capture/plan.h"] = [[
enum plan_kind {
	PLAN_AT,
	PLAN_COPY,
	PLAN_COPY_SIZED,
	PLAN_FOLLOW,
	PLAN_PER_CPU,
	PLAN_ARRAY,
	PLAN_ARRAY_SIZED,
	PLAN_LIST,
	PLAN_CHAIN,
	PLAN_RBTREE,
	PLAN_XARRAY,
	PLAN_SET,
	PLAN_LOAD,
	PLAN_IF,
	PLAN_IF_TEXT,
	PLAN_STRING,
	PLAN_PAGES,
	PLAN_CALC,
	PLAN_MOVE,
	PLAN_KINDS,
};
enum plan_flags {
	PLAN_ONE = 1 << 0,
	PLAN_SUFFIX = 1 << 1,
	PLAN_ONCE = 1 << 2,
	PLAN_MAY_BE_NULL = 1 << 3,
};
enum plan_calc {
	CALC_ADD,
	CALC_SUBTRACT,
	CALC_AND,
	CALC_MAX,
	CALC_SHIFT,
	CALC_KINDS,
};
enum {
	PLAN_MAGIC = 0x4e504b54,
	PLAN_REGISTERS = 8,
	PLAN_DEPTH = 32,
	PLAN_OPS_MAX = 1 << 16,
	PLAN_TEXT_MAX = 4 << 20,
	PLAN_CPUS_MAX = 4096,
	PLAN_BYTES_MAX = 256 << 20,
	PLAN_COPY_MAX = 16 << 20,
	PLAN_STRING_MAX = 4096,
	PLAN_PAGES_MAX = 1 << 20,
	PLAN_NAME_MAX = 256,
	PLAN_NOTES_MAX = 512,
};
struct plan_header {
	u32 magic;
	u32 ops;
	u32 text_size;
	u32 cpus;
	u64 percpu_offsets;
	u64 percpu_unset;
	u64 max_bytes;
	u64 max_ns;
	u32 max_steps;
	u32 id;
};
struct plan_op {
	u8 kind;
	u8 flags;
	u8 reg, reg2;
	u32 below;
	u32 path;
	u32 limit;
	u64 a, b, c;
};
struct plan;
struct error *plan_create(const void *bytes, size_t size, struct plan **ret);
void plan_put(struct plan *p);
struct plan_run;
struct error *plan_run_create(struct plan *p, u64 expected, struct plan_run **ret);
void plan_run_execute(struct plan_run *run, const struct view *view);
struct error *plan_run_finish(struct plan_run *run, struct record **ret);
]],

  ["kernel/vmcore_file.h"] = [[
struct vmcore_file;
struct kvm_regs;
struct kvm_sregs;
struct error *vmcore_open(const char *path, struct vmcore_file **ret);
void vmcore_end(struct vmcore_file *f);
void vmcore_close(struct vmcore_file *f);
struct view *vmcore_view(struct vmcore_file *f);
const char *vmcore_info(const struct vmcore_file *f);
u32 vmcore_cpu_count(const struct vmcore_file *f);
const struct kvm_regs *vmcore_regs(const struct vmcore_file *f, u32 cpu);
const struct kvm_sregs *vmcore_sregs(const struct vmcore_file *f, u32 cpu);
]],
}

--- The headers, each after those that it needs.
c.headers = { "base/types.h", "base/error.h", "base/buf.h", "image/kernel.h", "kernel/symbols.h",
  "kernel/types.h", "kernel/view.h", "kernel/orc.h", "kernel/unwind.h", "kernel/disasm.h",
  "kernel/lines.h", "kernel/vmcore_file.h", "capture/record.h", "capture/plan.h", "coordinator/monitor.h",
  "tlv/wire.h", "kernel/pid.h", "kernel/ops.h", "tlv/codec.h", "kernel/op_request.h" }

-- A struct can be declared once a process, and specs load the library again.
if not pcall(ffi.typeof, "struct view") then
  for _, header in ipairs(c.headers) do
    ffi.cdef(c.declarations[header])
  end
end

local C = ffi.C

--- Raises a struct error * of C's as one of ours, and gives it back; NULL is fine.
---@param err ffi.cdata* struct error *
function c.check(err)
  if err ~= nil then
    local hint = C.error_hint(err)
    local e = errors.new(ffi.string(C.error_code_name(C.error_code(err))), ffi.string(C.error_message(err)),
      hint ~= nil and ffi.string(hint) or nil)
    C.error_destroy(err)
    error(e, 0)
  end
end

--- What a function of C's writes into a struct buf: fill(buf) returns a struct error *.
---@param fill fun(buf: ffi.cdata*): ffi.cdata*
---@return string
function c.text(fill)
  local buf = ffi.new "struct buf"
  local ok, e = pcall(function()
    c.check(fill(buf))
    c.check(C.buf_check(buf))
    return ffi.string(buf.data, buf.size)
  end)
  C.buf_deinit(buf)
  if not ok then
    error(e, 0)
  end
  return e
end

return c
