-- Objects as text: what tostring(obj) gives. A struct is shown with its members, those within it to a limited
-- depth; pointers are shown and not followed.
local ffi = require "ffi"
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"
local memory = require "ktstr.kernel.memory"
local values = require "ktstr.kernel.values"

local Object = memory.Object

local show = {}

local DEPTH = 2
local ELEMENTS = 8
local LINES = 1000

-- A string as Lua would read it, on one line.
local function quote(text)
  return '"' .. text:gsub('[%c"\\\128-\255]', function(character)
    if character == '"' or character == "\\" then
      return "\\" .. character
    end
    return ("\\x%02x"):format(character:byte())
  end) .. '"'
end

-- Code and data of the image have names; a kernel that cannot say is no reason to show nothing.
local function name_at(k, place)
  local ok, name = memory.try(k.name, k, address.new(place))
  return ok and name and (" <%s>"):format(name) or ""
end

local function pointer_text(k, place)
  return place == 0ULL and "NULL" or address.hex(place) .. name_at(k, place)
end

local function scalar(k, value, type_of)
  if type(value) == "string" then
    return type_of.kind == "enum" and value or quote(value)
  elseif address.is(value) then
    return pointer_text(k, value.value_)
  elseif type(value) == "cdata" then
    return tostring(value):match "^%-" and tostring(value):gsub("LL$", "") or address.hex(value)
  end
  return tostring(value)
end

local write_object

-- A record has of most structs a few members: the others would bury them.
local function is_unrecorded(k, e)
  return k.is_recorded and errors.is(e, "unmapped")
end

local function has_parts(type)
  return type:has_members() or type.kind == "array"
end

-- One value, read by its descriptor.
local function write_value(out, k, self, d, place, depth)
  local ok, value = memory.try(d.read, self, d, place)
  if not ok then
    out:add(("<%s>"):format(value.message))
    out.shown = out.shown + (is_unrecorded(k, value) and 0 or 1)
  elseif ffi.istype(Object, value) and d.type.kind ~= "pointer" then
    write_object(out, k, value, d.type, depth)
  else
    out.shown = out.shown + 1
    out:add(ffi.istype(Object, value) and ("(%s) %s"):format(d.type.name, pointer_text(k, value.place_))
      or scalar(k, value, d.type))
  end
end

local function write_members(out, k, self, type, base, depth)
  for _, member in ipairs(type:members()) do
    if out.full then
      return
    end
    if member.name == "" and has_parts(member.type) then
      -- Its members are the outer one's.
      write_members(out, k, self, member.type, base + member.offset, depth)
    elseif member.name ~= "" then
      local d = values.describe(type, member.name, member.type, base + member.offset, member.bits)
      local before = out:mark()
      out:line(depth, member.name .. " = ")
      write_value(out, k, self, d, self.place_ + d.offset, depth)
      out:add ","
      if k.is_recorded and out.shown == before.shown then
        out:take_back(before)
      end
    end
  end
end

local function write_elements(out, k, self, type, depth)
  local e = values.elements[self.handle_]
  if e == nil then
    e = values.describe_elements(self.handle_)
  end
  local count = type.count
  local nested = e and has_parts(e.type) and not e.type.is_char
  for i = 0, math.min(count, ELEMENTS) - 1 do
    if nested then
      out:line(depth, "")
    else
      out:add(i > 0 and ", " or " ")
    end
    write_value(out, k, self, e, self.place_ + i * e.stride, depth)
    if nested then
      out:add ","
    end
  end
  if count > ELEMENTS then
    out:add((", ... (%d in all)"):format(count))
  end
  return nested
end

local has_something

function write_object(out, k, self, type, depth)
  if depth >= DEPTH then
    out:add "{ ... }"
    out.shown = out.shown + (has_something(k, self, type) and 1 or 0)
  elseif type.kind == "array" then
    out:add "{"
    local nested = write_elements(out, k, self, type, depth + 1)
    if nested then
      out:line(depth, "}")
    else
      out:add " }"
    end
  else
    out:add "{"
    write_members(out, k, self, type, 0, depth + 1)
    out:line(depth, "}")
  end
end

local Out = {}
Out.__index = Out

function Out:add(text)
  self.pieces[#self.pieces + 1] = text
end

function Out:line(depth, text)
  self.lines = self.lines + 1
  self.full = self.lines > LINES
  self:add("\n" .. ("  "):rep(depth) .. text)
end

function Out:mark()
  return { pieces = #self.pieces, lines = self.lines, shown = self.shown, left_out = self.left_out }
end

-- A member that nothing was recorded of.
function Out:take_back(mark)
  for i = #self.pieces, mark.pieces + 1, -1 do
    self.pieces[i] = nil
  end
  self.lines, self.left_out, self.full = mark.lines, mark.left_out + 1, false
end

-- shown: values that could be had; left_out: members that nothing was recorded of.
local function new_out()
  return setmetatable({ pieces = {}, lines = 0, full = false, shown = 0, left_out = 0 }, Out)
end

-- Of what lies too deep to be shown, whether there would be anything.
function has_something(k, self, type)
  if not k.is_recorded then
    return true
  end
  local out = new_out()
  write_object(out, k, self, type, 0)
  return out.shown > 0
end

local function body(k, self, type)
  local out = new_out()
  if has_parts(type) then
    write_object(out, k, self, type, 0)
    if out.left_out > 0 then
      out:add((" (%d more members were not recorded)"):format(out.left_out))
    end
  else
    local e = values.elements[self.handle_]
    if e == nil then
      e = values.describe_elements(self.handle_)
    end
    if not e then
      return nil
    end
    write_value(out, k, self, e, self.place_, 0)
  end
  if out.full then
    out:add(("\n... (cut after %d lines)"):format(LINES))
  end
  return table.concat(out.pieces)
end

--- An object as text. It never raises for what is in memory; an object that cannot be used says why.
---@param self ktstr.Object
---@return string
function show.text(self)
  local handle = values.handles[self.handle_]
  local type = handle and handle.type
  local origin = memory.origin_text(self.origin_)
  local name = type and type.name or origin ~= "" and origin or "memory"
  local title = ("%s%s at %s"):format(handle and handle.percpu and "per-CPU " or "", name,
    self.place_ == 0ULL and "NULL" or address.hex(self.place_))
  local k = memory.kernel(self)
  if not k or not type or handle.percpu or self.place_ == 0ULL then
    return title
  end
  local ok, text = pcall(body, k, self, type)
  if ok then
    return text and title .. " = " .. text or title
  elseif not errors.is(text, "stale") and not errors.is(text, "ended") then
    error(text, 0)
  end
  return ("%s (%s)"):format(title, text.message)
end

return show
