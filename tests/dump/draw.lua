-- Fields drawn at random out of a kernel's objects, and what each is worth, as text that another debugger's
-- account is compared with.
local address = require "ktstr.kernel.address"
local object = require "ktstr.kernel.object"

local draw = {}

---@class tests.Field
---@field type string of the object
---@field place string its address
---@field path string of the field in it
---@field value string

--- What the value of a text begins with.
draw.TEXT = "'"

local SCALARS = { int = true, enum = true, pointer = true }
local DEPTH = 6

local function is_text(type)
  return type.kind == "array" and type.count > 0 and type:target().is_char
end

local function pick(list)
  return list[math.random(#list)]
end

-- --- where fields are drawn from ---

-- Structs that hang on a task; not every task has each.
local OF_A_TASK = { "mm", "signal", "sighand", "files", "fs", "nsproxy", "real_cred", "thread_pid",
  "cgroups.dfl_cgrp", "sched_class", "group_leader", "user_cpus_ptr", "io_context", "thread_info" }

local function roots_of(k, cpus)
  local list = { k:var "init_task" }
  for cpu = 0, cpus - 1 do
    list[#list + 1] = k:per_cpu("runqueues", cpu)
  end
  for task in k:tasks() do
    list[#list + 1] = task
  end
  return list
end

local function part_of(task, path)
  local at = task
  for name in path:gmatch "[^.]+" do
    if not at:has_(name) then
      return nil
    end
    at = at:get_(name)
    if not object.is(at) or at:address_() == address.new(0) then
      return nil
    end
  end
  return at
end

local function root(list)
  local at = pick(list)
  if at:type_().name == "struct task_struct" and math.random() < 0.5 then
    return part_of(at, pick(OF_A_TASK)) or at
  end
  return at
end

-- --- a way from there ---

-- Whether something can be drawn from a type.
local function leads_on(type, depth)
  if SCALARS[type.kind] or is_text(type) then
    return true
  elseif depth == 0 then
    return false
  elseif type.kind == "array" then
    return type.count > 0 and leads_on(type:target(), depth - 1)
  end
  return type:has_members() and type.count > 0
end

-- Members with a name, those of anonymous ones among them.
local function named_members(type)
  local list = {}
  for _, name in ipairs(type:member_names()) do
    list[#list + 1] = type:member(name)
  end
  return list
end

-- A path through embedded structs and arrays to a scalar or a text; nil: a dead end.
local function way(type)
  local path = ""
  for depth = DEPTH, 0, -1 do
    if SCALARS[type.kind] or is_text(type) then
      return path, type
    elseif not leads_on(type, depth) then
      return nil
    elseif type.kind == "array" then
      path = ("%s[%d]"):format(path, math.random(0, math.min(type.count, 64) - 1))
      type = type:target()
    else
      local member = pick(named_members(type))
      path = path == "" and member.name or path .. "." .. member.name
      type = member.type
    end
  end
end

-- --- what is there ---

local function decimal(value)
  return type(value) == "number" and ("%.0f"):format(value) or (tostring(value):gsub("U?LL$", ""))
end

local function hex(text)
  return (text:gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end))
end

--- A field's value as text: numbers in decimal, pointers in hexadecimal, texts as a ' and the
--- hexadecimal of their bytes.
---@param of ktstr.Object
---@param path string
---@param type ktstr.Type of the field
---@return string
function draw.value(of, path, type)
  local value = of:get_(path)
  if type.kind == "pointer" then
    return address.hex(address.raw(value))
  elseif is_text(type) then
    return draw.TEXT .. hex(value)
  elseif _G.type(value) == "boolean" then
    return value and "1" or "0"
  elseif type.kind == "enum" and _G.type(value) == "string" then
    value = type:values()[value]
  end
  return decimal(value)
end

--- The type of what a path leads to.
---@param of ktstr.Object
---@param path string
---@return ktstr.Type
function draw.type(of, path)
  local _, member = object.offset(of:type_(), path)
  local type = member.type
  for _ in path:match "[%[%]%d]*$":gmatch "%[" do
    type = type:target()
  end
  return type
end

--- So many fields, by math.random.
---@param k ktstr.Kernel
---@param cpus integer
---@param count integer
---@return tests.Field[]
function draw.fields(k, cpus, count)
  local list, roots = {}, roots_of(k, cpus)
  while #list < count do
    local of = root(roots)
    local path, type = way(of:type_())
    if path and path ~= "" then
      list[#list + 1] = {
        type = of:type_().name,
        place = address.hex(address.raw(of)),
        path = path,
        value = draw.value(of, path, type),
      }
    end
  end
  return list
end

return draw
