-- A capture as plain tables: what is written as JSON and shown as text. docs/captures.md has its form.
local ffi = require "ffi"
local errors = require "ktstr.errors"
local memory = require "ktstr.kernel.memory"
local values = require "ktstr.capture.values"

local data = {}

data.FORMAT, data.VERSION = "ktstr capture", 1

local function plain(value)
  if ffi.istype(memory.Object, value) then
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

local function contents(map, out)
  if map.type == "array" and map.max_entries == 1 and map.name:find "%." then
    out.globals = plain(map:globals())
    return
  end
  local entries = setmetatable({}, values.array)
  for key, value in map:entries() do
    entries[#entries + 1] = { key = plain(key), value = plain(value) }
  end
  out.entries = entries
end

local function map_data(map)
  local out = { id = map.id, name = map.name, type = map.type, key_size = map.key_size,
    value_size = map.value_size, max_entries = map.max_entries }
  local ok, e = pcall(contents, map, out)
  if not ok then
    if not errors.is(e) or e.code == "interrupted" then
      error(e, 0)
    end
    out.globals, out.entries = nil, nil
    out.unreadable = e.message
  end
  return out
end

local function maps_of(capture)
  local list = setmetatable({}, values.array)
  local ok, e = pcall(function()
    for map in capture:maps() do
      list[#list + 1] = map_data(map)
    end
  end)
  if not ok and (not errors.is(e) or e.code == "interrupted") then
    error(e, 0)
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
