-- What Tab offers: names, fields and methods. Nothing is called for that, so that looking changes nothing:
-- fields that a function would make (__index) are not found.
local show = require "ktstr.repl.show"

local complete = {}

local DEPTH = 10 -- of tables that stand behind each other through __index

local function index_of(value)
  local mt = debug.getmetatable(value)
  return type(mt) == "table" and rawget(mt, "__index") or nil
end

-- Calls f(t) for the value, and the tables behind it, until one returns something.
local function through_tables(value, f)
  local t = type(value) == "table" and value or index_of(value)
  for _ = 1, DEPTH do
    if type(t) ~= "table" then
      return nil
    end
    local found = f(t)
    if found ~= nil then
      return found
    end
    t = index_of(t)
  end
end

local function field(value, key)
  return through_tables(value, function(t)
    return rawget(t, key)
  end)
end

-- The value of "a.b.c" before the last separator; nil where there is none.
local function value_of(path, env)
  local value = env
  for name in path:gmatch "[%a_][%w_]*" do
    value = field(value, name)
    if value == nil then
      return nil
    end
  end
  return value
end

-- Names that begin with the prefix; those for internal use only when asked for.
local function add_names(found, value, prefix, wanted)
  through_tables(value, function(t)
    for key, one in next, t do
      local fits = type(key) == "string" and key:find "^[%a_][%w_]*$" and key:sub(1, #prefix) == prefix
      if fits and (prefix ~= "" or key:sub(1, 1) ~= "_") and wanted(one) then
        found[key] = true
      end
    end
  end)
end

local function any()
  return true
end

local function is_callable(value)
  return type(value) == "function"
end

local function in_string(text)
  local open
  for c in text:gsub("\\.", ""):gmatch "[\"']" do
    if not open then
      open = c
    elseif open == c then
      open = nil
    end
  end
  return open ~= nil
end

local function sorted(found)
  local names = {}
  for name in pairs(found) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- The names that the end of a line may become.
---@param line string up to the cursor
---@param env table the globals
---@param commands string[] words of the prompt itself
---@return string[] names sorted
---@return string prefix what is there of them
function complete.names(line, env, commands)
  local found = {}
  if in_string(line) then
    return {}, ""
  end
  local before, chain = line:match "^(.-)([%a_][%w_%.:]*)$"
  before, chain = before or line, chain or ""
  if chain:find("..", 1, true) then
    before, chain = "..", chain:match "%.%.([%w_]*)$" or ""
  end
  -- What follows a value that is no name is a field of something that would have to be computed.
  if before:find "[%w_%)%]}\"'%.:]$" and not before:find "%.%.$" then
    return {}, ""
  end
  local path, separator, prefix = chain:match "^(.-)([%.:])([%w_]*)$"
  if separator then
    local value = value_of(path, env)
    if value ~= nil and not path:find(":", 1, true) then
      add_names(found, value, prefix, separator == ":" and is_callable or any)
    end
    return sorted(found), prefix
  end
  prefix = chain
  add_names(found, env, prefix, any)
  for word in pairs(show.keywords) do
    if word:sub(1, #prefix) == prefix then
      found[word] = true
    end
  end
  local first = line:match "^%s*(.-)$" == prefix
  for _, word in ipairs(commands) do
    if first and word:sub(1, #prefix) == prefix then
      found[word] = true
    end
  end
  return sorted(found), prefix
end

local function common_prefix(names)
  local common = names[1]
  for _, name in ipairs(names) do
    while name:sub(1, #common) ~= common do
      common = common:sub(1, -2)
    end
  end
  return common
end

local WIDTH = 80

-- Names side by side.
local function in_columns(names)
  local width = 0
  for _, name in ipairs(names) do
    width = math.max(width, #name + 2)
  end
  local a_row = math.max(1, math.floor(WIDTH / width))
  local lines = {}
  for i = 1, #names, a_row do
    local cells = {}
    for j = i, math.min(i + a_row - 1, #names) do
      cells[#cells + 1] = names[j] .. (" "):rep(width - #names[j])
    end
    lines[#lines + 1] = (table.concat(cells):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

--- What Tab does on a line: text to insert, or a list to choose from.
---@param line string up to the cursor
---@param env table
---@param commands string[]
---@return string|nil insert
---@return string|nil choice
function complete.line(line, env, commands)
  local names, prefix = complete.names(line, env, commands)
  if #names == 0 then
    return nil
  end
  local insert = common_prefix(names):sub(#prefix + 1)
  if insert ~= "" then
    return insert
  end
  return nil, #names > 1 and in_columns(names) or nil
end

return complete
