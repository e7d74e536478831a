-- Operations on the kernel's memory, many in one batch: vm:kernel_ops, and what the guest's programs ask for.
--
-- Names become places here, entry by entry; C does the rest, as the guest runs or in one freeze. The first
-- entry that fails ends the batch, whether its name has no place or its place no memory.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local address = require "ktstr.kernel.address"
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local freeze = require "ktstr.freeze"
local known = require "ktstr.kernel.known"
local memory = require "ktstr.kernel.memory"
local monitor_program = require "ktstr.kernel.monitor_program"
local options = require "ktstr.options"
local percpu = require "ktstr.kernel.percpu"
local values = require "ktstr.kernel.values"
require "ktstr.kernel.object"

local ops = {}

local BATCH_MAX = 16 * 1024 -- OPS_MAX
local BYTES_MAX = 16 * 2 ^ 20 -- OPS_BYTES_MAX
local STEPS_MAX = 16 -- OPS_STEPS_MAX

local NUMBERS = { read = 1, write = 2, ["or"] = 3 } -- enum wire_kernel_op
local ADDRESS, PER_CPU, TASK = 0, 1, 2 -- enum op_base

local TYPES = {
  u8 = { size = 1 }, u16 = { size = 2 }, u32 = { size = 4 }, u64 = { size = 8 },
  s8 = { size = 1, is_signed = true }, s16 = { size = 2, is_signed = true },
  s32 = { size = 4, is_signed = true }, s64 = { size = 8, is_signed = true },
  bytes = { is_bytes = true },
}
local TYPE_NAMES = { "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "bytes" }

---@class ktstr.KernelOp one entry: where, then what
---@field op "read"|"write"|"or"
---@field symbol string|nil where: a global; with `cpu` a per-CPU variable
---@field cpu integer|nil
---@field address ktstr.Address|ktstr.Object|number|nil or an address; an object has its type
---@field task integer|nil or the task with that pid; needs `field`
---@field field string|nil a path from there: "cfs.nr_queued", "curr.pid", "args[2]"; pointers are followed
---@field struct string|nil what is at a symbol or an address, where the kernel does not say: "struct rq"
---@field type string|nil "u8" to "u64", "s8" to "s64", "bytes"; nil: what the kernel's types say
---@field length integer|nil of "bytes" that are read, where the type does not say it
---@field value any what is written: a number, uint64_t, an address, true or false; "bytes": a string. With
---  "or" the bits to set, of 32

local ENTRY_RULES = {
  op = { "string", required = true, one_of = { "read", "write", "or" } },
  symbol = { "string" },
  cpu = { "number", min = 0, max = 2 ^ 31 - 1, integer = true },
  address = { "number|cdata" },
  task = { "number", min = 1, max = 2 ^ 31 - 1, integer = true },
  field = { "string" },
  struct = { "string" },
  type = { "string", one_of = TYPE_NAMES },
  length = { "number", min = 1, max = BYTES_MAX, integer = true },
  value = { "number|cdata|boolean|string" },
}

local function invalid(format, ...)
  errors.raise("invalid", format:format(...))
end

--- What an entry is called in messages: "runqueues.nr_running of CPU 1".
---@param entry ktstr.KernelOp
---@return string
function ops.name(entry)
  local name = entry.symbol or entry.task and "task " .. entry.task
    or address.is_place(entry.address) and address.hex(address.raw(entry.address)) or "?"
  if entry.field then
    name = name .. "." .. entry.field
  end
  return entry.cpu and ("%s of CPU %d"):format(name, entry.cpu) or name
end

-- --- from names to places ---

local function field_type(k, entry, found)
  if entry.struct then
    return values.resolve_type(k:_types(), entry.struct)
  end
  return found
end

local function symbol_base(k, entry)
  local is_percpu = function(symbol)
    return percpu.is_symbol(k, symbol)
  end
  local symbol = k:_symbol(entry.symbol, entry.cpu and is_percpu or nil)
  if is_percpu(symbol) ~= (entry.cpu ~= nil) then
    errors.raise(entry.cpu and "invalid" or "per-cpu", entry.cpu and "it is not per-CPU"
      or "it is per-CPU: each CPU has one of its own", not entry.cpu and "say which: cpu = 0" or nil)
  end
  local set = k._image.types
  local type = set and (set:variable(entry.symbol) or known.type_of(set, entry.symbol))
  return { kind = entry.cpu and PER_CPU or ADDRESS, start = k:_place(symbol), number = entry.cpu,
    type = field_type(k, entry, type), is_global = not entry.cpu }
end

local function address_base(k, entry)
  local type = access.is_object(entry.address) and entry.address:type_() or nil
  return { kind = ADDRESS, start = memory.place(k._slot, entry.address), type = field_type(k, entry, type) }
end

local function task_base(k, entry)
  return { kind = TASK, start = 0, number = entry.task, type = k:_types():get "struct task_struct" }
end

local function base_of(k, entry)
  if (entry.symbol and 1 or 0) + (entry.address ~= nil and 1 or 0) + (entry.task and 1 or 0) ~= 1 then
    invalid("an entry is on one of symbol, address and task")
  elseif entry.cpu and not entry.symbol then
    invalid("only a symbol has a part on each CPU")
  elseif entry.task and not entry.field then
    invalid("which field of the task is not said")
  end
  return (entry.symbol and symbol_base or entry.task and task_base or address_base)(k, entry)
end

local PATH_HINT = "a path has names and indices: \"curr.pid\", \"args[2]\""

local function check_path(path)
  for part in (path .. "."):gmatch "(.-)%." do
    local indices = part:match "^[%a_][%w_]*(.*)$"
    if not indices or indices:gsub("%[%d%d?%d?%d?%d?%d?%]", "") ~= "" then
      errors.raise("invalid", ("'%s' is no path to a field"):format(path), PATH_HINT)
    end
  end
end

-- Follows the field; what the operand is by the kernel's types, as far as they say it.
local function place_of(k, entry)
  local base = base_of(k, entry)
  if entry.field and not base.type then
    errors.raise("not-found", "nothing says of which type it is, so it has no fields",
      "say it: struct = \"struct ...\"")
  elseif not base.type then
    base.steps, base.offset = {}, 0
    return base
  end
  if entry.field then
    check_path(entry.field)
  end
  local at = monitor_program.walk(base.type, entry.field or "")
  if at.field_bits > 0 then
    errors.raise("unsupported", "it is a bit-field, which is no word of its own",
      "\"or\" sets bits; vm.k reads and writes bit-fields of a frozen machine")
  elseif #at.steps > STEPS_MAX then
    invalid("more than %d pointers on the way", STEPS_MAX)
  end
  base.steps, base.offset, base.operand = at.steps, at.bits / 8, at.type
  return base
end

-- --- what is read and written ---

local SCALARS = { int = true, enum = true, pointer = true }

local function natural(operand)
  if operand and SCALARS[operand.kind] and operand.size <= 8 then
    return { size = operand.size, is_signed = operand.is_signed }
  elseif operand then
    return { is_bytes = true, size = operand.size }
  end
end

-- A word as it lies in memory, as uint64_t.
local function to_word(value, size)
  if type(value) == "boolean" then
    return value and 1ULL or 0ULL
  elseif address.is_place(value) and not ffi.istype("int64_t", value) then
    value = address.raw(value)
  elseif type(value) == "number" and value % 1 == 0 and value >= -2 ^ 53 and value < 0 then
    value = ffi.cast("int64_t", value)
  elseif not ffi.istype("int64_t", value) then
    invalid("%s is no value for a word", options.show(value))
  end
  local bits, word = size * 8, ffi.cast("uint64_t", value)
  local above = bits == 64 and 0LL or bit.arshift(ffi.cast("int64_t", word), bits)
  local is_negative = bits < 64 and bit.arshift(ffi.cast("int64_t", word), bits - 1) == -1LL
  if above ~= 0 and not is_negative then
    invalid("%s does not fit into %d bytes", tostring(value), size)
  end
  return word
end

-- Which type the entry reads or writes: size, is_signed, is_bytes.
local function kind_of(entry, operand)
  local own = natural(operand)
  local wanted = entry.type and (TYPES[entry.type] or invalid("there is no type '%s', only %s", entry.type,
    table.concat(TYPE_NAMES, ", "))) or own
  if entry.op == "or" then
    wanted = entry.type and wanted or TYPES.u32
    if wanted.size ~= 4 then
      invalid("bits are set in words of 32, not in %s", entry.type)
    end
  end
  if not wanted and (entry.length or type(entry.value) == "string") then
    wanted = TYPES.bytes
  end
  if not wanted then
    errors.raise("not-found", "nothing says how many bytes it has", "say it: type = \"u32\"")
  elseif own and not wanted.is_bytes and own.size ~= wanted.size then
    invalid("it is a %s of %d bytes, and not of %d", operand.name, own.size, wanted.size)
  end
  return wanted, own
end

-- How many bytes an entry of bytes has.
local function byte_count(entry, own)
  local count = entry.length or own and own.size
  if entry.op == "write" then
    if type(entry.value) ~= "string" then
      invalid("bytes are written as a string")
    end
    count = #entry.value
  end
  if not count or count == 0 then
    invalid("how many bytes is not said: length = 16")
  elseif own and own.size > 0 and count > own.size then
    invalid("it has %d bytes, and not %d", own.size, count)
  end
  return count
end

local function check_value(entry)
  if (entry.value ~= nil) ~= (entry.op ~= "read") then
    invalid(entry.op == "read" and "a read takes no value" or "the value is missing")
  elseif entry.length and entry.op ~= "read" then
    invalid("only a read has a length")
  end
end

-- An entry with its place and its kind. Raises what is wrong with it.
local function resolve(k, entry)
  check_value(entry)
  local one = place_of(k, entry)
  local kind, own = kind_of(entry, one.operand)
  one.entry, one.is_bytes, one.is_signed = entry, kind.is_bytes, kind.is_signed
  one.size = kind.is_bytes and byte_count(entry, own) or kind.size
  if one.is_global and #one.steps == 0 and not one.is_bytes then
    one.start = percpu.scalar_place(k, one.start)
  end
  if entry.op ~= "read" and not one.is_bytes then
    one.value = to_word(entry.value, one.size)
  end
  one.needs_cpu = one.kind == PER_CPU
  for _, step in ipairs(one.steps) do
    if step.per_cpu and not entry.cpu then
      errors.raise("per-cpu", "a pointer on the way is per-CPU, and this is no CPU's")
    end
  end
  return one
end

-- --- batches ---

local Layout, Op, Step = ffi.typeof "struct op_layout", ffi.typeof "struct op", ffi.typeof "struct op_step"

local function pid_layout(k, layout)
  local offset = access.offset
  local idr = access.symbol(k, "init_pid_ns") + offset(k, "struct pid_namespace", "idr")
  local slots = access.count(k, "struct xa_node", "slots")
  layout.head = idr + offset(k, "struct idr", "idr_rt") + offset(k, "struct xarray", "xa_head")
  layout.base = idr + offset(k, "struct idr", "idr_base")
  layout.node_shift = offset(k, "struct xa_node", "shift")
  layout.node_slots = offset(k, "struct xa_node", "slots")
  layout.slot_bits = slots == 16 and 4 or 6
  layout.pid_tasks = offset(k, "struct pid", "tasks")
  layout.task_links = offset(k, "struct task_struct", "pid_links")
  layout.task_pid = offset(k, "struct task_struct", "pid")
end

local function layout_of(k, list)
  local layout = Layout()
  for _, one in ipairs(list) do
    if one.needs_cpu and layout.offsets == 0 then
      local unset = k:_image_symbol "__per_cpu_load"
      layout.offsets = access.symbol(k, "__per_cpu_offset")
      layout.unset = unset and k:_place(unset) or 0
      layout.cpus = k:_image_symbol "nr_cpu_ids" and k:var("nr_cpu_ids", "unsigned int")
        or k._vm.topology.cpus
    elseif one.kind == TASK and layout.pids.head == 0 then
      pid_layout(k, layout.pids)
    end
  end
  return layout
end

local function bytes_of(ctype, value)
  return ffi.string(value, ffi.sizeof(ctype))
end

-- What goes to C: the entries, the steps of all of them, the data.
local function encode(k, list)
  local entries, steps, data, place = {}, {}, {}, 0
  for i, one in ipairs(list) do
    entries[i] = bytes_of(Op, Op {
      start = one.start,
      offset = one.offset,
      value = one.value or 0,
      number = one.number or 0,
      first_step = #steps,
      size = one.size,
      data = place,
      steps = #one.steps,
      op = NUMBERS[one.entry.op],
      base = one.kind,
      is_bytes = one.is_bytes and 1 or 0,
    })
    for _, step in ipairs(one.steps) do
      steps[#steps + 1] = bytes_of(Step, Step(step.offset, step.per_cpu and 1 or 0))
    end
    if one.is_bytes then
      one.place = place
      data[#data + 1] = one.entry.op == "write" and one.entry.value or ("\0"):rep(one.size)
      place = place + one.size
    end
  end
  return bytes_of(Layout, layout_of(k, list)), table.concat(entries), table.concat(steps), table.concat(data)
end

-- Of a signed type: as int64_t.
local function signed(word, size)
  local shift = 64 - 8 * size
  return bit.arshift(bit.lshift(ffi.cast("int64_t", word), shift), shift)
end

local words = ffi.typeof "const uint64_t *"

-- { one, value (uint64_t, int64_t, a string) or nil } for each of the entries that were carried out.
local function results_of(list, raw, data)
  local results, word = {}, ffi.cast(words, raw)
  for i = 1, #raw / 8 do
    local one, value = list[i], nil
    if one.entry.op == "or" or one.entry.op == "read" and not one.is_bytes then
      value = word[i - 1]
      value = one.is_signed and signed(value, one.size) or value
    elseif one.entry.op == "read" then
      value = data:sub(one.place + 1, one.place + one.size)
    end
    results[i] = { one = one, value = value }
  end
  return results
end

-- An error as one of an entry's.
local function of_entry(e, i, entry)
  if not errors.is(e) then
    error(e, 0)
  end
  return errors.new(e.code, ("entry %d, %s: %s"):format(i, ops.name(entry), e.message), e.hint,
    { index = i, cannot_run = e.cannot_run })
end

-- Errors that are not about an entry.
local ENDING = { interrupted = true, ["freeze-limit"] = true, ended = true, ["no-memory"] = true }

-- As far as entries have places: those, and why the next one has none.
local function resolve_all(k, entries, most_bytes)
  local list, bytes = {}, 0
  for i, entry in ipairs(entries) do
    local ok, one = pcall(resolve, k, entry)
    if ok and one.is_bytes then
      bytes = bytes + one.size
      if bytes > most_bytes then
        ok = false
        one = errors.new("invalid", ("all entries together have at most %d bytes"):format(most_bytes))
      end
    end
    if not ok and errors.is(one) and ENDING[one.code] then
      error(one, 0)
    elseif not ok then
      return list, of_entry(one, i, entry)
    end
    list[i] = one
  end
  return list
end

--- Carries entries out, in order, up to the first that fails.
---@param k ktstr.Kernel
---@param entries ktstr.KernelOp[]
---@param cold boolean
---@param most_bytes number that all of them together read and write as bytes
---@return { one: table, value: any }[] results of those that were carried out
---@return ktstr.Error|nil err the next one's, with its index
function ops.run(k, entries, cold, most_bytes)
  k:_ready()
  local list, failed = resolve_all(k, entries, most_bytes)
  if #list == 0 then
    return {}, failed
  end
  local layout, encoded, steps, data = encode(k, list)
  local raw, found, err = k._machine:run_ops(layout, encoded, steps, data, cold)
  local results = results_of(list, raw, found)
  if err then
    if ENDING[err.code] then
      error(err, 0)
    end
    failed = of_entry(err, #results + 1, entries[#results + 1])
  end
  return results, failed
end

-- --- for scripts ---

local function present(result)
  local value, op = result.value, result.one.entry.op
  if op == "write" then
    return true
  elseif type(value) == "string" then
    return value
  elseif ffi.istype("int64_t", value) then
    return address.signed(value)
  end
  return address.unsigned(value)
end

local function present_all(results)
  local list = {}
  for i, result in ipairs(results) do
    list[i] = present(result)
  end
  return list
end

local WHAT = "vm:kernel_ops"

local function check_list(list)
  options.check(WHAT, list, { list = true, cold = { "boolean" } })
  if #list > BATCH_MAX then
    errors.refuse("invalid", ("%s takes at most %d entries, not %d"):format(WHAT, BATCH_MAX, #list))
  end
  for i, entry in ipairs(list) do
    options.check(("%s: entry %d"):format(WHAT, i), entry, ENTRY_RULES)
  end
end

--- See vm:kernel_ops.
---@param vm ktstr.VM
---@param list table
---@return any[]
function ops.batch(vm, list)
  check_list(list)
  local k = vm.k
  -- In a freeze of the script's own they are as cold as can be.
  local cold = list.cold and not vm.machine:is_frozen()
  local results, failed = freeze.asking(vm, "asked for kernel operations", freeze.patiently, vm, function()
    return ops.run(k, list, cold, BYTES_MAX)
  end)
  if failed then
    failed.values = present_all(results)
    error(failed, 0)
  end
  return present_all(results)
end

-- --- for the guest ---

local wire = core.wire
local OPS = { [NUMBERS.read] = "read", [NUMBERS.write] = "write", [NUMBERS["or"]] = "or" }
local REASON_MAX = 900

local function text_or_nil(chars)
  local text = ffi.string(chars)
  return text ~= "" and text or nil
end

-- An entry of C's as a script would give it.
local function entry_of(raw)
  local C = ffi.C
  local entry = {
    op = OPS[raw.op],
    symbol = text_or_nil(raw.symbol),
    cpu = raw.has_cpu and raw.cpu or nil,
    address = raw.where == C.OP_AT_ADDRESS and address.new(raw.address) or nil,
    task = raw.where == C.OP_AT_TASK and raw.pid or nil,
    field = text_or_nil(raw.field),
    struct = text_or_nil(raw.structure),
    type = text_or_nil(raw.type),
    length = raw.has_length and tonumber(raw.length) or nil,
  }
  if raw.has_data then
    entry.value = ffi.string(raw.data, tonumber(raw.data_size))
  elseif raw.has_value then
    entry.value = raw.value + 0ULL
  end
  return entry
end

local function parse(payload)
  local c = require "ktstr.kernel.c"
  local request, raw, entries = ffi.new "struct op_request", ffi.new "struct op_entry", {}
  c.check(ffi.C.op_request_open(payload, #payload, request))
  while ffi.C.op_request_next(request, raw) do
    entries[#entries + 1] = entry_of(raw)
  end
  return { id = request.request_id, cold = request.cold, entries = entries }
end

local function word_bytes(value)
  return ffi.string(ffi.new("uint64_t[1]", ffi.cast("uint64_t", value)), 8)
end

local function attribute_of(result)
  local value = result.value
  if value == nil then
    return { "WRITTEN", true }
  elseif type(value) == "string" then
    return { "DATA", value }
  end
  return { ffi.istype("int64_t", value) and "SIGNED" or "VALUE", word_bytes(value) }
end

local STATUS = { busy = wire.KERNEL_OP_BUSY, timeout = wire.KERNEL_OP_TIMEOUT }

local function answer(id, results, failed)
  local attributes = {}
  for i, result in ipairs(results) do
    attributes[i] = attribute_of(result)
  end
  local status = wire.KERNEL_OP_DONE
  if failed then
    status = errors.is(failed) and not failed.index and STATUS[failed.code] or wire.KERNEL_OP_FAILED
    attributes[#attributes + 1] = { "REASON", (tostring(failed):gsub("%z", "?"):sub(1, REASON_MAX)) }
  end
  local head = ffi.new("struct wire_kernel_op_reply", id, status, #results)
  return bytes_of("struct wire_kernel_op_reply", head) .. wire.pack(attributes)
end

--- Carries out what a program of the guest has asked for, and answers it, whatever comes of it.
---@param vm ktstr.VM
---@param message { token: integer, payload: string }
function ops.serve(vm, message)
  if not vm.machine:claim_kernel_op(message.token) then
    return
  end
  local id, e = 0, nil
  local ok, results, failed = pcall(function()
    local request = parse(message.payload)
    id = request.id
    return ops.run(vm.k, request.entries, request.cold, wire.KERNEL_OP_BYTES_MAX)
  end)
  if not ok then
    e, results, failed = results, {}, results
  end
  vm.machine:answer_kernel_op(message.token, answer(id, results, failed))
  if e and errors.is(e, "interrupted") then
    error(e, 0)
  end
end

return ops
