-- A capture as plain tables: what is written as JSON and shown as text. docs/captures.md has its form.
local ffi = require "ffi"
local memory = require "ktstr.kernel.memory"
local values = require "ktstr.capture.values"

local data = {}

data.FORMAT, data.VERSION = "ktstr capture", 1

-- A map's key or value: all of it was recorded, or none, which raises "unmapped".
local function plain(value)
  if ffi.istype(memory.Object, value) then
    local k = memory.kernel(value)
    k:read(value, value:type_().size)
    return values.plain(value, value:type_())
  elseif type(value) == "table" then -- of a per-CPU map: by CPU
    local out = setmetatable({}, values.array)
    for cpu = 0, table.maxn(value) do
      out[cpu + 1] = plain(value[cpu])
    end
    return out
  end
  return value
end

-- What lies in an arena by its users' addresses.
local function pages_of(map)
  local list = setmetatable({}, values.array)
  for address, bytes in map:pages() do
    list[#list + 1] = { address = address, bytes = bytes }
  end
  return list
end

local function records_of(map)
  local list = setmetatable({}, values.array)
  for bytes in map:records() do
    list[#list + 1] = bytes
  end
  return list
end

local function task_of(task)
  if task == memory.kernel(task).null then
    return nil -- it is being taken away
  end
  return { pid = task.pid, tgid = task.tgid, comm = task.comm }
end

local function address_of(owner)
  return owner:address_()
end

local function map_of(map)
  return { id = map.id, name = map.name }
end

local function program_of(prog)
  return { id = prog.aux.id, name = prog.aux.name }
end

-- What stands for something else than itself.
local KEYS = { task_storage = task_of, cgrp_storage = address_of, sk_storage = address_of,
  inode_storage = address_of }
local VALUES = { array_of_maps = map_of, hash_of_maps = map_of, prog_array = program_of }

local function contents(map, out)
  if map.type == "arena" then
    out.pages = pages_of(map)
    return
  elseif map.type == "ringbuf" or map.type == "user_ringbuf" then
    out.records = records_of(map)
    return
  end
  if map.type == "array" and map.max_entries == 1 and map.name:find "%." then
    out.globals = plain(map:globals())
    return
  end
  local entries = setmetatable({}, values.array)
  local key_of, value_of = KEYS[map.type] or plain, VALUES[map.type] or plain
  for key, value in map:entries() do
    entries[#entries + 1] = { key = key_of(key), value = value_of(value) }
  end
  out.entries = entries
end

local function map_data(map)
  local out = { id = map.id, name = map.name, type = map.type, key_size = map.key_size,
    value_size = map.value_size, max_entries = map.max_entries }
  local ok, e = memory.try(contents, map, out)
  if not ok then
    out.globals, out.entries, out.pages, out.records = nil, nil, nil, nil
    out.unreadable = e.message
  end
  return out
end

local function maps_of(capture)
  local list = setmetatable({}, values.array)
  local ok, e = memory.try(function()
    for map in capture:maps() do
      list[#list + 1] = map_data(map)
    end
  end)
  if not ok then
    list[#list + 1] = values.missing_because(e)
  end
  return list
end

local function notes_of(capture)
  local list = setmetatable({}, values.array)
  for i, note in ipairs(capture.notes) do
    list[i] = { what = note.what, count = note.count, address = note.address, path = note.path,
      text = note.text }
  end
  return list
end

local function registers_of(capture)
  local list = setmetatable({}, values.array)
  for cpu = 0, capture:cpus() - 1 do
    local regs = {}
    for name, value in pairs(capture:cpu(cpu).regs) do
      regs[name] = value
    end
    list[cpu + 1] = { regs = regs }
  end
  return list
end

--- A capture, or a placeholder, as tables.
---@param capture ktstr.Capture
---@return table
function data.of(capture)
  local out = { format = data.FORMAT, version = data.VERSION, tag = capture.tag, source = capture.source,
    elapsed_ms = capture.elapsed_ms, workload_ms = capture.workload_ms, phase = capture.phase,
    epoch = capture.epoch, clock = capture.clock, frozen_ms = capture.frozen_ms, release = capture.release,
    reason = capture.reason, notes = notes_of(capture) }
  if capture.reason then
    return out
  end
  out.cpus = registers_of(capture)
  if capture._plan then
    out.values = values.of(capture)
    out.maps = capture._plan.has_maps and maps_of(capture) or nil
  end
  return out
end

return data
