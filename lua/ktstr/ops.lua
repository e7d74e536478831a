-- Operations on the kernel's memory, many in one batch: vm:kernel_ops, and what the guest's programs ask for.
--
-- Names become places here, entry by entry; C does the rest, as the guest runs or in one freeze. The first
-- entry that fails ends the batch, whether its name has no place or its place no memory.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local address = require "ktstr.kernel.address"
local c = require "ktstr.kernel.c"
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local freeze = require "ktstr.freeze"
local operand = require "ktstr.kernel.operand"
local options = require "ktstr.options"
require "ktstr.kernel.object"

local ops = {}

local BATCH_MAX = 16 * 1024 -- OPS_MAX
local BYTES_MAX = 16 * 2 ^ 20 -- OPS_BYTES_MAX

local NUMBERS = { read = 1, write = 2, ["or"] = 3 } -- enum wire_kernel_op

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
    end
    if one.kind == operand.TASK and layout.pids.head == 0 then
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
      cpu = one.entry.cpu or 0,
      pid = one.entry.task or 0,
      first_step = #steps,
      size = one.size,
      data = place,
      steps = #one.steps,
      op = NUMBERS[one.entry.op],
      base = one.kind,
      is_bytes = one.is_bytes and 1 or 0,
      shift = one.field and one.field.shift or 0,
      bits = one.field and one.field.bits or 0,
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

-- Of a signed type of so many bits: as int64_t.
local function signed(word, bits)
  local shift = 64 - bits
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
      value = one.is_signed and signed(value, one.field and one.field.bits or one.size * 8) or value
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
  return errors.new(e.code, ("entry %d, %s: %s"):format(i, operand.name(entry), e.message), e.hint,
    { index = i, cannot_run = e.cannot_run })
end

-- Errors that are not about an entry.
local ENDING = { interrupted = true, ["freeze-limit"] = true, ended = true, ["no-memory"] = true }

-- As far as entries have places: those, and why the next one has none.
local function resolve_all(k, entries, most_bytes)
  local list, bytes = {}, 0
  for i, entry in ipairs(entries) do
    local ok, one = pcall(operand.resolve, k, entry)
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

local ENTRY_RULES = {
  op = { "string", required = true, one_of = { "read", "write", "or" } },
  symbol = { "string" },
  cpu = { "number", min = 0, max = 2 ^ 31 - 1, integer = true },
  address = { "number|cdata" },
  task = { "number", min = 1, max = 2 ^ 31 - 1, integer = true },
  field = { "string" },
  struct = { "string" },
  type = { "string", one_of = operand.types },
  length = { "number", min = 1, max = BYTES_MAX, integer = true },
  value = { "number|cdata|boolean|string" },
}

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
    status = errors.is(failed) and STATUS[failed.code] or wire.KERNEL_OP_FAILED
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
  local made, text = pcall(answer, id, results, failed)
  -- Who asks waits until there is an answer.
  vm.machine:answer_kernel_op(message.token, made and text or answer(id, {}, text))
  if e and errors.is(e, "interrupted") then
    error(e, 0)
  end
end

return ops
