-- What a monitor reads, by the names of the kernel's own members: compiled once into the flat program that
-- the coordinator carries out (core/coordinator/monitor.h), and the way back from a sample's bytes to values.
local ffi = require "ffi"
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"
require "ktstr.kernel.c" -- declares the structs
local known = require "ktstr.kernel.known"

local monitor_program = {}

local NO_CPU = 0xffffffff -- MONITOR_NO_CPU
local PER_CPU, SIGNED = 1, 2 -- enum monitor_cell_flags
local SIZES = { [1] = true, [2] = true, [4] = true, [8] = true }

-- --- paths ---

local function add_indices(parts, indices)
  for i in indices:gmatch "%[(%d+)%]" do
    parts[#parts + 1] = tonumber(i)
  end
end

-- "a.b[2].c" as { "a", "b", 2, "c" }; "[1].a" as { 1, "a" }.
local function parse(path)
  local parts = {}
  local first, rest = path:match "^(%[[%[%]%d]*)%.?(.*)$"
  add_indices(parts, first or "")
  for name, indices in (rest or path):gmatch "([^%.%[%]]+)([%[%]%d]*)%.?" do
    parts[#parts + 1] = name
    add_indices(parts, indices)
  end
  return parts
end

-- A place that is being walked to: steps so far, then bits from where they lead.
local function follow_pointer(at)
  at.steps[#at.steps + 1] = { offset = at.bits / 8, per_cpu = at.is_percpu }
  at.bits, at.is_percpu, at.type = 0, false, at.type:target()
end

local function element(at, index)
  local owner = at.type
  if owner.kind == "pointer" then
    follow_pointer(at)
  elseif owner.kind == "array" and (index < owner.count or owner.count == 0) then
    at.type = owner:target()
  else
    errors.raise("not-found", ("%s has no [%d]"):format(owner.name, index))
  end
  -- What void * points to has no second one: it would lie where the first one does.
  if index > 0 and at.type.size == 0 then
    errors.raise("not-found", ("%s has no [%d]: nobody knows the size of %s"):format(owner.name, index,
      at.type.name))
  end
  at.bits = at.bits + index * at.type.size * 8
end

local function member(at, name)
  if at.type.kind == "pointer" then
    follow_pointer(at)
  end
  local owner, found = at.type, at.type:member(name)
  at.bits, at.type, at.field_bits = at.bits + found.offset, found.type, found.bits
  at.is_percpu = at.type.kind == "pointer"
    and (at.type.is_percpu or known.is_percpu(owner.name, name, at.type:target().name))
end

-- The word that a bit-field is in, and where it is in that.
local function bit_field(at, place)
  local word = math.floor(at.bits / 32)
  place.offset, place.size = word * 4, 4
  place.shift, place.bits = at.bits - word * 32, at.field_bits
  if place.shift + place.bits > 32 then
    errors.raise("unsupported", "a bit-field across words cannot be monitored")
  end
end

--- The way to a member, by its path through structs, arrays and pointers. Raises "not-found".
---@param type ktstr.Type of what the path begins at
---@param path string|(string|integer)[] "" for that itself; or names and indices
---@return table at steps, then bits from where they lead; the member's type, and field_bits of a bit-field
function monitor_program.walk(type, path)
  local at = { type = type, bits = 0, field_bits = 0, is_percpu = false, steps = {} }
  for _, part in ipairs(_G.type(path) == "table" and path or parse(path)) do
    (_G.type(part) == "number" and element or member)(at, part)
  end
  return at
end

--- Where a number is, likewise. Raises "unsupported", too.
---@param type ktstr.Type
---@param path string
---@return table place steps, offset, size, is_signed, shift and bits of a bit-field
function monitor_program.place(type, path)
  local at = monitor_program.walk(type, path)
  local place = { steps = at.steps, offset = at.bits / 8, size = at.type.size, is_signed = at.type.is_signed }
  if at.field_bits > 0 then
    bit_field(at, place)
  elseif at.type:has_members() or at.type.kind == "array" or not SIZES[place.size] then
    errors.raise("unsupported", ("%s is of type %s: a monitor reads numbers"):format(path, at.type.name))
  end
  return place
end

-- --- programs ---

---@class ktstr.MonitorProgram
---@field cpus integer
local Program = {}
Program.__index = Program

local Cell, Step = ffi.typeof "struct monitor_cell", ffi.typeof "struct monitor_step"
local Head = ffi.typeof "struct monitor_program"

--- An empty one.
---@param cpus integer of the machine
---@param offsets ffi.cdata*|number|nil where __per_cpu_offset is; nil: nothing is per-CPU
---@param unset ffi.cdata*|number|nil what is there before the kernel has set up its per-CPU areas, beside 0
---@return ktstr.MonitorProgram
function monitor_program.new(cpus, offsets, unset)
  return setmetatable({ cpus = cpus, offsets = offsets or 0, unset = unset or 0, cells = {}, steps = {},
    step_count = 0, step_places = {}, values = {} }, Program)
end

-- Equal ways are kept once: those of all CPUs are.
local function place_steps(self, steps)
  local key = {}
  for i, step in ipairs(steps) do
    key[i] = ("%d%s"):format(step.offset, step.per_cpu and "c" or "")
  end
  key = table.concat(key, ",")
  local first = self.step_places[key]
  if not first then
    first = self.step_count
    for _, step in ipairs(steps) do
      self.steps[#self.steps + 1] = ffi.string(Step(step.offset, step.per_cpu and 1 or 0), ffi.sizeof(Step))
    end
    self.step_count = first + #steps
    self.step_places[key] = first
  end
  return first
end

--- A value more: the sum of that place on each of the CPUs that are given.
---@param start ffi.cdata*|number uint64_t
---@param place { steps: table, offset: integer, size: integer, is_signed: boolean|nil, shift: integer|nil,
---  bits: integer|nil }
---@param cpus (integer|false)[] false: it is no CPU's
---@param is_percpu boolean|nil whether start is a per-CPU address
---@return integer index of the value, from 0
function Program:add(start, place, cpus, is_percpu)
  local index = #self.values
  local signed = place.is_signed and not place.bits
  local first = place_steps(self, place.steps)
  for _, cpu in ipairs(cpus) do
    local cell = Cell {
      start = start,
      offset = place.offset,
      cpu = cpu or NO_CPU,
      value = index,
      first_step = first,
      steps = #place.steps,
      size = place.size,
      flags = (is_percpu and PER_CPU or 0) + (signed and SIGNED or 0),
    }
    self.cells[#self.cells + 1] = { bytes = ffi.string(cell, ffi.sizeof(Cell)), value = index,
      way = ("%08x %08x %s"):format(cell.cpu, first, address.hex(cell.start)) }
  end
  self.values[index + 1] = {
    is_signed = signed,
    shift = place.shift,
    bits = place.bits,
    is_signed_field = place.is_signed and place.bits ~= nil,
  }
  return index
end

--- Bytes of a sample, as core/coordinator/monitor.h has it.
---@return integer
function Program:sample_size()
  return ffi.sizeof "struct monitor_sample" + self.cpus * ffi.sizeof "struct monitor_cpu" + #self.values * 8
    + math.ceil(math.ceil(#self.values / 8) / 8) * 8
end

-- Neighbours that follow the same pointers do it once.
local function sorted_cells(self)
  local list = {}
  table.sort(self.cells, function(a, b)
    if a.way ~= b.way then
      return a.way < b.way
    end
    return a.value < b.value
  end)
  for i, cell in ipairs(self.cells) do
    list[i] = cell.bytes
  end
  return table.concat(list)
end

--- Has a machine carry it out.
---@param machine ktstr.core.machine
---@param interval number seconds
---@param keep integer samples
---@return ktstr.core.monitor
function Program:start(machine, interval, keep)
  local head = Head(self.offsets, self.unset, self.cpus, #self.values)
  return machine:monitor(ffi.string(head, ffi.sizeof(Head)), sorted_cells(self), table.concat(self.steps),
    interval, keep)
end

-- --- samples ---

local sample_pointer = ffi.typeof "const struct monitor_sample *"
local cpu_pointer = ffi.typeof "const struct monitor_cpu *"
local word_pointer = ffi.typeof "const uint64_t *"
local byte_pointer = ffi.typeof "const uint8_t *"
local UNKNOWN = 0xffffffffffffffffULL -- MONITOR_UNKNOWN
local STATES = { [1] = "wants", [2] = "sleeps" } -- enum host_time_state
local NSEC = 1e9

--- What a sample's bytes begin with, and pointers to the rest, which are good as long as `bytes` is.
---@param bytes string
---@param offset integer
---@return table
function Program:open(bytes, offset)
  local base = ffi.cast(byte_pointer, bytes) + offset
  local head = ffi.cast(sample_pointer, base)
  local cpus = base + ffi.sizeof "struct monitor_sample"
  local values = cpus + self.cpus * ffi.sizeof "struct monitor_cpu"
  return {
    number = tonumber(head.number),
    time = tonumber(head.host_ns) / NSEC,
    elapsed = tonumber(head.elapsed_ns) / NSEC,
    spent = head.spent_ns / NSEC,
    epoch = head.epoch,
    bytes = bytes,
    host = ffi.cast(cpu_pointer, cpus),
    words = ffi.cast(word_pointer, values),
    present = values + #self.values * 8,
  }
end

--- What the host did with a vCPU: seconds of CPU time, and "wants" or "sleeps"; nil where it does not tell.
---@param sample table
---@param cpu integer
---@return number|nil, string|nil
function Program.host(_, sample, cpu)
  local one = sample.host[cpu]
  return one.ran_ns ~= UNKNOWN and tonumber(one.ran_ns) / NSEC or nil, STATES[one.state]
end

local function bits_of(value, word)
  local bits = tonumber(bit.band(bit.rshift(word, value.shift), bit.lshift(1ULL, value.bits) - 1ULL))
  if value.is_signed_field and bits >= 2 ^ (value.bits - 1) then
    return bits - 2 ^ value.bits
  end
  return bits
end

--- A value of a sample; nil: it could not be read.
---@param sample table
---@param index integer
---@return number|ffi.cdata*|nil
function Program:get(sample, index)
  if bit.band(sample.present[math.floor(index / 8)], bit.lshift(1, index % 8)) == 0 then
    return nil
  end
  local value, word = self.values[index + 1], sample.words[index]
  if value.bits then
    return bits_of(value, word)
  elseif value.is_signed then
    return address.signed(ffi.cast("int64_t", word))
  end
  return address.unsigned(word)
end

return monitor_program
