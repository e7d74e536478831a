-- Values as text for somebody at a prompt: short, on one line where they fit, and never without end.
local errors = require "ktstr.errors"
local ffi = require "ffi"

local show = {}

local WIDTH = 100 -- a table that fits is shown on one line
local DEPTH = 4 -- of tables in tables
local ELEMENTS = 100 -- shown of one table
local STRING = 2000 -- bytes shown of one string by itself, and of one in a table:
local STRING_INSIDE = 200
local EXACT = 2ULL ^ 53 -- integers from there on are addresses and masks: in hex
local TOTAL = 50000 -- bytes, then nothing more is opened

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then
  true until while]]):gmatch "%a+" do
  keywords[word] = true
end
show.keywords = keywords

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

local function quote(text, limit)
  local cut = text:sub(1, limit)
  local quoted = '"' .. cut:gsub('[%c\\"\127]', function(c)
    return escapes[c] or ("\\x%02x"):format(c:byte())
  end) .. '"'
  return #text > limit and ("%s... (%d bytes)"):format(quoted, #text) or quoted
end

-- What the value's own __tostring says; one that fails is no reason to show nothing.
local function own_text(value)
  local mt = debug.getmetatable(value)
  if type(mt) ~= "table" or type(rawget(mt, "__tostring")) ~= "function" then
    return nil
  end
  local ok, text = pcall(tostring, value)
  if not ok and errors.is(text, "interrupted") then
    error(text, 0)
  end
  return ok and text or nil
end

-- A kernel's object inside a table: all that it holds is shown when it is shown by itself.
local function object_title(value)
  local object = package.loaded["ktstr.kernel.object"]
  if object and object.is(value) then
    return ("%s at %s"):format(value:type_().name, tostring(value:address_()))
  end
end

local function is_name(key)
  return type(key) == "string" and key:find "^[%a_][%w_]*$" and not keywords[key]
end

local rank = { number = 1, string = 2 }

local function by_kind_and_value(a, b)
  local ra, rb = rank[type(a)] or 3, rank[type(b)] or 3
  if ra ~= rb then
    return ra < rb
  elseif ra < 3 then
    return a < b
  end
  return tostring(a) < tostring(b)
end

-- The keys after the list 1..n.
local function other_keys(t, n)
  local keys = {}
  for key in next, t do
    if not (type(key) == "number" and key >= 1 and key <= n and key % 1 == 0) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, by_kind_and_value)
  return keys
end

local render

local function render_key(key)
  if is_name(key) then
    return key
  end
  return ("[%s]"):format(type(key) == "string" and quote(key, STRING_INSIDE)
    or type(key) == "number" and tostring(key) or "<" .. type(key) .. ">")
end

local function elements_of(state, t, depth)
  local parts, n = {}, 0
  local function add(prefix, value)
    n = n + 1
    if n <= ELEMENTS and state.used < TOTAL then
      local text = prefix .. render(state, value, depth + 1)
      state.used = state.used + #text
      parts[#parts + 1] = text
    end
  end
  local length = 0
  while rawget(t, length + 1) ~= nil do
    length = length + 1
    add("", rawget(t, length))
  end
  for _, key in ipairs(other_keys(t, length)) do
    add(render_key(key) .. " = ", rawget(t, key))
  end
  if n > #parts then
    parts[#parts + 1] = ("... (%d more)"):format(n - #parts)
  end
  return parts
end

local function render_table(state, t, depth)
  if state.path[t] then
    return "<the same table again>"
  elseif next(t) == nil then
    return "{}"
  elseif depth >= DEPTH then
    return "{...}"
  end
  state.path[t] = true
  local parts = elements_of(state, t, depth)
  state.path[t] = nil
  local line = "{ " .. table.concat(parts, ", ") .. " }"
  if #line + 2 * depth <= WIDTH and not line:find("\n", 1, true) then
    return line
  end
  local indent = ("  "):rep(depth + 1)
  return ("{\n%s%s\n%s}"):format(indent, table.concat(parts, ",\n" .. indent), ("  "):rep(depth))
end

function render(state, value, depth)
  if type(value) == "string" then
    return quote(value, depth == 0 and STRING or STRING_INSIDE)
  elseif type(value) == "number" then
    return ("%.14g"):format(value)
  elseif ffi.istype("uint64_t", value) and value >= EXACT then
    return ("0x%sULL"):format(bit.tohex(value))
  end
  local text = depth > 0 and object_title(value) or own_text(value)
  if text then
    return depth == 0 and text or (text:gsub("\n", "\n" .. ("  "):rep(depth)))
  elseif type(value) == "table" then
    return render_table(state, value, depth)
  end
  return tostring(value)
end

--- One value.
---@param value any
---@return string
function show.value(value)
  return render({ used = 0, path = {} }, value, 0)
end

--- Several values: on one line where they fit, else each on its own.
---@param values table with n, as from { n = select("#", ...), ... }
---@return string
function show.values(values)
  local texts, length = {}, 0
  for i = 1, values.n do
    texts[i] = show.value(values[i])
    length = length + #texts[i] + 2
  end
  local all = table.concat(texts, "\n")
  local lines = select(2, all:gsub("\n", ""))
  return lines == values.n - 1 and length <= WIDTH and table.concat(texts, ", ") or all
end

return show
