-- A capture as text for people: who was running where, the tasks in a table, then everything else by its
-- path.
local ffi = require "ffi"
local values = require "ktstr.capture.values"

local text = {}

local LINE = 110

local function is_list(value)
  return getmetatable(value) == values.array
end

local function sorted(of)
  local names = {}
  for name in pairs(of) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    return tostring(a) < tostring(b)
  end)
  return names
end

local function scalar(value)
  if type(value) == "number" then
    return value % 1 == 0 and math.abs(value) < 2 ^ 53 and ("%.0f"):format(value) or ("%.14g"):format(value)
  elseif type(value) == "cdata" then
    return (tostring(value):gsub("U?LL$", ""))
  elseif type(value) == "string" then
    return value:find "[^%w_%-%./:+]" and ("%q"):format(value) or value == "" and '""' or value
  end
  return tostring(value)
end

local function inline(value)
  if type(value) ~= "table" then
    return scalar(value)
  end
  local out = {}
  if values.is_missing(value) then
    return tostring(value)
  elseif is_list(value) then
    for i = 1, table.maxn(value) do
      out[i] = value[i] == nil and "-" or inline(value[i])
    end
    return "[" .. table.concat(out, " ") .. "]"
  end
  for i, name in ipairs(sorted(value)) do
    out[i] = ("%s=%s"):format(name, inline(value[name]))
  end
  return "{ " .. table.concat(out, "  ") .. " }"
end

--- A value on one line.
---@param value any
---@return string
function text.value(value)
  return inline(value)
end

-- "a=1  b=2", over as many lines as it takes; structs within are lines of their own.
local function add_members(out, value, indent)
  local line = indent
  local nested = {}
  for _, name in ipairs(sorted(value)) do
    local one = value[name]
    local item = type(one) == "table" and inline(one)
    if item and #item > LINE - #indent - #tostring(name) and not is_list(one) then
      nested[#nested + 1] = name
    else
      item = ("%s=%s"):format(name, item or scalar(one))
      if #line + #item + 2 > LINE and line ~= indent then
        out[#out + 1] = line
        line = indent
      end
      line = line .. (line == indent and "" or "  ") .. item
    end
  end
  if line ~= indent then
    out[#out + 1] = line
  end
  for _, name in ipairs(nested) do
    out[#out + 1] = indent .. tostring(name) .. ":"
    add_members(out, value[name], indent .. "  ")
  end
end

-- Of a register: the way it is everywhere else.
local function word(value)
  local number = tonumber(value)
  if type(value) == "table" or not number then
    return scalar(value)
  end
  return ("0x%s"):format((bit.tohex(ffi.cast("uint64_t", value)):gsub("^0+(.)", "%1")))
end

local function add_cpus(out, data)
  for i, cpu in ipairs(data.cpus or {}) do
    local regs = cpu.regs
    local rq = data.values and data.values.runqueues and data.values.runqueues[i]
    local curr = rq and type(rq.curr) == "table" and rq.curr.comm and rq.curr
    local task = curr and ("at %s[%s]  "):format(scalar(curr.comm), scalar(curr.pid)) or ""
    out[#out + 1] = ("CPU %d: %srip %s  rsp %s  rflags %s  cr3 %s"):format(i - 1, task, word(regs.rip),
      word(regs.rsp), word(regs.rflags), word(regs.cr3))
    if rq then
      add_members(out, rq, "  ")
    end
  end
end

local COLUMNS = { "pid", "tgid", "comm", "cpu", "on_cpu", "on_rq", "__state", "policy", "prio",
  "static_prio" }

local function add_tasks(out, tasks)
  local last = tasks[table.maxn(tasks)]
  local missing = values.is_missing(last)
  out[#out + 1] = ("tasks: %d%s"):format(table.maxn(tasks) - (missing and 1 or 0),
    missing and " " .. tostring(last) or "")
  for i = 1, table.maxn(tasks) - (missing and 1 or 0) do
    local task, head, rest = tasks[i] or {}, {}, {}
    for _, name in ipairs(COLUMNS) do
      if task[name] ~= nil then
        head[#head + 1] = ("%s=%s"):format(name, scalar(task[name]))
      end
    end
    for name, value in pairs(task) do
      rest[name] = value
    end
    for _, name in ipairs(COLUMNS) do
      rest[name] = nil
    end
    out[#out + 1] = "  " .. table.concat(head, "  ")
    add_members(out, rest, "    ")
  end
end

local function add_maps(out, maps)
  for _, map in ipairs(maps) do
    if values.is_missing(map) then
      out[#out + 1] = "BPF maps: " .. tostring(map)
      return
    end
    out[#out + 1] = ("BPF map %d '%s' (%s)%s"):format(map.id, map.name, map.type,
      map.unreadable and ": " .. map.unreadable or "")
    if map.globals then
      add_members(out, map.globals, "  ")
    end
    for _, entry in ipairs(map.entries or {}) do
      out[#out + 1] = ("  %s: %s"):format(inline(entry.key), inline(entry.value))
    end
    for i, bytes in ipairs(map.records or {}) do
      out[#out + 1] = ("  record %d: %q"):format(i, bytes)
    end
    for _, page in ipairs(map.pages or {}) do
      out[#out + 1] = ("  a page at %s"):format(tostring(page.address))
    end
  end
end

--- All of a capture.
---@param data table see capture/data.lua
---@return string
function text.of(data)
  local out = { ("capture '%s' (%s, at %.1f ms%s)%s"):format(data.tag, data.source, data.elapsed_ms,
    data.phase and (" in '%s'"):format(data.phase) or "",
    data.release and " of Linux " .. data.release or "") }
  if data.reason then
    out[1] = out[1] .. ": not taken: " .. data.reason
  end
  for _, note in ipairs(data.notes or {}) do
    out[#out + 1] = "note: " .. note.text
  end
  add_cpus(out, data)
  local rest = {}
  for name, value in pairs(data.values or {}) do
    if name ~= "runqueues" and name ~= "tasks" then
      rest[name] = value
    end
  end
  add_members(out, rest, "")
  if data.values and data.values.tasks then
    add_tasks(out, data.values.tasks)
  end
  add_maps(out, data.maps or {})
  return table.concat(out, "\n") .. "\n"
end

return text
