-- Captures as JSON, and back. Numbers that no JSON reader keeps exact are { "$int": "18446744073709551615" },
-- addresses { "$address": "0xffff888003c2a000" }, bytes that are no UTF-8 { "$bytes": "ff00" }, and
-- { "$missing": "why" } stands where the rest of a list was not recorded: no member of a kernel's struct
-- begins with '$'.
local ffi = require "ffi"
local dkjson = require "dkjson"
local unistd = require "posix.unistd"
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"
local files = require "ktstr.files"
local values = require "ktstr.capture.values"

local json = {}

local EXACT_DIGITS = 1e14 -- what dkjson writes itself
local INDENT = true

-- --- writing ---

-- A number whose digits are ours: dkjson calls this.
local Number = { __tojson = function(self)
  return self.text
end }

local function number(value)
  if value ~= value or value == math.huge or value == -math.huge then
    return { ["$int"] = tostring(value) }
  elseif value % 1 == 0 then
    return math.abs(value) < EXACT_DIGITS and value or setmetatable({ text = ("%.0f"):format(value) }, Number)
  end
  return setmetatable({ text = ("%.17g"):format(value) }, Number)
end

-- Well-formed UTF-8, as far as its form goes.
local function is_text(value)
  local rest = value:gsub("[\194-\223][\128-\191]", ""):gsub("[\224-\239][\128-\191][\128-\191]", "")
    :gsub("[\240-\244][\128-\191][\128-\191][\128-\191]", "")
  return not rest:find "[\128-\255]"
end

-- The bytes of a char array need not be text: then they are written as hexadecimal digits.
local function text(value)
  return is_text(value) and value or { ["$bytes"] = value:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end) }
end

local function encodable(value)
  local kind = type(value)
  if kind == "number" then
    return number(value)
  elseif kind == "string" then
    return text(value)
  elseif kind == "cdata" then
    if address.is(value) then
      return { ["$address"] = address.hex(value.value_) }
    end
    return { ["$int"] = tostring(value):match "^%-?%d+" }
  elseif kind ~= "table" then
    return value
  end
  if getmetatable(value) == values.array then
    local out = setmetatable({}, values.array)
    for i = 1, table.maxn(value) do
      local one = value[i]
      out[i] = one == nil and dkjson.null or encodable(one)
    end
    return out
  end
  -- Always in the same order, so that two files can be compared.
  local out, order = {}, {}
  for key, one in pairs(value) do
    key = tostring(key)
    out[key] = encodable(one)
    order[#order + 1] = key
  end
  table.sort(order)
  return setmetatable(out, { __jsontype = "object", __jsonorder = order })
end

---@param data table
---@return string
function json.encode(data)
  return dkjson.encode(encodable(data), { indent = INDENT }) .. "\n"
end

local taken = 0

local function put(path, content)
  local file, reason = io.open(path, "wb")
  if file then
    local written, write_reason = file:write(content)
    local closed, close_reason = file:close()
    reason = not written and write_reason or not closed and close_reason or nil
  end
  return reason
end

-- Beside it, so that a rename makes it whole at once; a device or a pipe is written as it is.
local function write_file(path, content)
  taken = taken + 1
  local is_other = files.exists(path) and not files.is_file(path)
  local temporary = is_other and path or ("%s.tmp-%d-%d"):format(path, unistd.getpid(), taken)
  local reason = put(temporary, content)
  if not reason and not is_other then
    local _
    _, reason = os.rename(temporary, path)
  end
  if reason then
    if not is_other then
      os.remove(temporary)
    end
    errors.raise("os", ("cannot write the capture to %s: %s"):format(path, reason))
  end
end

--- As text, or into a file, which is there whole or not at all. Raises "os".
---@param data table
---@param path string|nil
---@return string|nil
function json.write(data, path)
  if path ~= nil and (type(path) ~= "string" or path == "") then
    errors.refuse("invalid", ("snap:json wants a file's name, not %s"):format(tostring(path)))
  end
  local content = json.encode(data)
  if not path then
    return content
  end
  write_file(path, content)
end

-- --- reading ---

local function decoded(value)
  if value == dkjson.null then
    return nil
  elseif type(value) ~= "table" then
    return value
  end
  local meta = getmetatable(value)
  if meta and meta.__jsontype == "array" then
    local out = setmetatable({}, values.array)
    for i = 1, table.maxn(value) do
      out[i] = decoded(value[i])
    end
    return out
  elseif type(value["$int"]) == "string" then
    return json.integer(value["$int"])
  elseif type(value["$missing"]) == "string" then
    return setmetatable({ ["$missing"] = value["$missing"] }, values.missing)
  elseif type(value["$bytes"]) == "string" then
    return (value["$bytes"]:gsub("%x%x", function(digits)
      return string.char(tonumber(digits, 16))
    end))
  elseif type(value["$address"]) == "string" then
    return address.new(address.parse((value["$address"]:gsub("^0x", ""))))
  end
  local out = {}
  for key, one in pairs(value) do
    out[key] = decoded(one)
  end
  return out
end

--- The number that decimal digits stand for: a Lua number where that is exact.
---@param digits string
---@return number|ffi.cdata*
function json.integer(digits)
  local sign, rest = digits:match "^(%-?)(%d+)$"
  if not rest then
    return tonumber(digits) -- nan, inf
  end
  local value = 0ULL
  for digit in rest:gmatch "%d" do
    value = value * 10 + tonumber(digit)
  end
  if sign == "-" then
    return address.signed(ffi.cast("int64_t", 0ULL - value))
  end
  return address.unsigned(value)
end

local function raise_format(what, why)
  errors.refuse("format", ("%s is no capture: %s"):format(what, why))
end

local function is_list(value)
  return type(value) == "table" and getmetatable(value) == values.array
end

local function is_object(value)
  return type(value) == "table" and not is_list(value)
end

local function each(list, check)
  for i = 1, is_list(list) and table.maxn(list) or 0 do
    if not check(list[i]) then
      return false
    end
  end
  return is_list(list)
end

local function is_string(value)
  return type(value) == "string"
end

local function is_page(page)
  return is_object(page) and address.is(page.address) and is_string(page.bytes)
end

-- Each CPU's runqueue, each task: what is told of them with others in one line, or a table.
local function are_structs(list)
  return list == nil or each(list, function(one)
    return one == nil or values.is_missing(one) or is_object(one)
  end)
end

local function is_note(note)
  return is_object(note) and is_string(note.text) and is_string(note.what) and is_string(note.path)
    and type(note.count) == "number" and (note.address == nil or address.is(note.address))
end

-- One of these is what there is of a map.
local function has_contents(map)
  return map.entries and each(map.entries, is_object) or is_object(map.globals)
    or map.pages and each(map.pages, is_page) or map.records and each(map.records, is_string)
    or is_string(map.unreadable)
end

local function is_map(map)
  return values.is_missing(map) or is_object(map) and type(map.id) == "number" and is_string(map.name)
    and is_string(map.type) and has_contents(map)
end

local NEEDED = { tag = "string", source = "string", elapsed_ms = "number", clock = "number",
  frozen_ms = "number" }
local OPTIONAL = { reason = "string", release = "string", phase = "string", workload_ms = "number",
  epoch = "number" }

-- What is wrong with the form of what was read; nil: nothing.
local function defect(data)
  for name, kind in pairs(NEEDED) do
    if type(data[name]) ~= kind then
      return ("its '%s' is no %s"):format(name, kind)
    end
  end
  for name, kind in pairs(OPTIONAL) do
    if data[name] ~= nil and type(data[name]) ~= kind then
      return ("its '%s' is no %s"):format(name, kind)
    end
  end
  if not each(data.notes, is_note) then
    return "its 'notes' are none"
  elseif data.reason == nil and not each(data.cpus, function(cpu)
    return is_object(cpu) and is_object(cpu.regs)
  end) then
    return "its 'cpus' are none"
  elseif data.values ~= nil and not (is_object(data.values) and are_structs(data.values.runqueues)
    and are_structs(data.values.tasks)) then
    return "its 'values' are none"
  elseif data.maps ~= nil and not each(data.maps, is_map) then
    return "its 'maps' are none"
  end
end

--- A capture that was written as JSON: the same accessors over its values. `source` is the text, or a file's
--- name. Raises "format", "not-found".
---@param source string
---@return ktstr.KeptCapture
function json.read(source)
  if type(source) ~= "string" then
    errors.refuse("invalid", ("ktstr.record wants JSON or a file's name, not %s"):format(tostring(source)))
  end
  local what, content = "the text", source
  if not source:match "^%s*{" then
    what = source
    content = errors.preparing(files.read, source)
    if not content then
      errors.refuse("not-found", ("there is no file '%s'"):format(source))
    end
  end
  local ok, raw, _, message = pcall(dkjson.decode, content, 1, dkjson.null)
  if not ok then
    raise_format(what, "it is nested too deep")
  end
  local expected = require "ktstr.capture.data"
  if type(raw) ~= "table" then
    raise_format(what, message or "it is not an object")
  elseif raw.format ~= expected.FORMAT then
    raise_format(what, ("its format is '%s'"):format(tostring(raw.format)))
  elseif raw.version ~= expected.VERSION then
    raise_format(what, ("its version is %s, and this program reads %d"):format(tostring(raw.version),
      expected.VERSION))
  end
  local data = decoded(raw)
  local wrong = defect(data)
  if wrong then
    raise_format(what, wrong)
  end
  return require("ktstr.capture.kept").new(data)
end

return json
