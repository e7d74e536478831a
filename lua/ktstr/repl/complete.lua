-- What Tab offers: names, fields and methods; symbols, types and members of a kernel where one is meant. No
-- function of the user's is called for that, so that looking changes nothing: fields that a function would
-- make (__index) are not found.
local errors = require "ktstr.errors"
local kernel_names = require "ktstr.repl.kernel_names"
local pure = require "ktstr.repl.pure"
local show = require "ktstr.repl.show"
local tokens = require "ktstr.repl.tokens"

local complete = {}

-- What the strings are that methods of vm.k and of objects take: by argument. "member" is one of the type
-- that the argument before it names, or of the object itself.
local ARGUMENTS = {
  symbol = { "symbol" },
  symbols = { "symbol" },
  var = { "variable", "type" },
  set_var = { "variable", nil, "type" },
  per_cpu = { "percpu", nil, "type" },
  object = { "type" },
  enum = { "enum" },
  disassemble = { "code" },
  line = { "code" },
  list = { nil, "type", "member" },
  hlist = { nil, "type", "member" },
  llist = { nil, "type", "member" },
  rbtree = { nil, "type", "member" },
  cast_ = { "type" },
  container_of_ = { "type", "member" },
  get_ = { "member" },
  set_ = { "member" },
  member_ = { "member" },
  has_ = { "member" },
}

local function starts_with(name, prefix)
  return name:sub(1, #prefix) == prefix
end

local function add_all(found, names, prefix)
  for _, name in ipairs(names) do
    if starts_with(name, prefix) then
      found[name] = true
    end
  end
end

local function any()
  return true
end

local function is_callable(value)
  return type(value) == "function"
end

-- Names that begin with the prefix; those for internal use only when asked for.
local function add_fields(found, value, prefix, wanted)
  pure.through_tables(value, function(t)
    for key, one in next, t do
      local fits = type(key) == "string" and key:find "^[%a_][%w_]*$" and starts_with(key, prefix)
      if fits and (prefix ~= "" or key:sub(1, 1) ~= "_") and wanted(one) then
        found[key] = true
      end
    end
  end)
end

local function add_of_object(found, object, prefix, separator)
  if separator == "." then
    add_all(found, kernel_names.members(object:type_()), prefix)
  else
    add_fields(found, require("ktstr.kernel.object").methods, prefix, is_callable)
  end
end

-- What may follow a value.
local function add_names(found, value, prefix, separator)
  if pure.is_object(value) then
    return add_of_object(found, value, prefix, separator)
  end
  add_fields(found, value, prefix, separator == ":" and is_callable or any)
  if pure.is_kernel(value) then
    -- Those that are loaded when they are called first.
    for name in pairs(require "ktstr.kernel.methods") do
      found[name] = starts_with(name, prefix) or nil
    end
  end
end

local function sorted(found)
  local names = {}
  for name in pairs(found) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

-- The value of the expression that ends with a token, and its kernel.
local function value_before(list, last, env)
  local start = pure.start(list, last)
  if start then
    return pure.value(list, start, last, env)
  end
end

-- --- inside a string ---

-- What the string at the end of the tokens is: a key in brackets, or which argument of which method, and the
-- token before which the value ends that it is for.
local function role_of(list)
  local n = #list
  local function is_mark(i, text)
    return list[i] and list[i].kind == "mark" and list[i].text == text
  end
  local function is_method(i)
    return list[i] and list[i].kind == "name" and is_mark(i - 1, ":")
  end
  if is_method(n - 1) then
    return { method = list[n - 1].text, argument = 1, before = n - 2 }
  elseif not is_mark(n - 1, "(") and not is_mark(n - 1, ",") and not is_mark(n - 1, "[") then
    return nil
  end
  local open, commas = pure.opening(list, n, true)
  if open and list[open].text == "[" and open == n - 1 then
    return { before = open }
  elseif open and list[open].text == "(" and is_method(open - 1) then
    return { method = list[open - 1].text, argument = commas + 1, before = open - 2 }
  end
end

-- The type that the argument before names.
local function named_type(list, kernel)
  local token = list[#list - 2]
  local ok, found = errors.try(function()
    return token.kind == "string" and kernel.types[token.text]
  end)
  return ok and found or nil
end

local function add_of_member(found, list, role, value, kernel, prefix)
  local of
  if role.argument > 1 then
    of = kernel and named_type(list, kernel)
  elseif pure.is_object(value) then
    of = value:type_()
  end
  if of then
    add_all(found, kernel_names.members(of), prefix)
  end
end

local function add_keys(found, value, kernel, prefix)
  if kernel and rawequal(value, kernel.types) then
    local names, cut = kernel_names.of(kernel, "type", prefix)
    add_all(found, names, prefix)
    return cut
  elseif pure.is_object(value) then
    add_of_object(found, value, prefix, ".")
  elseif type(value) == "table" then
    for key in next, value do
      if type(key) == "string" and starts_with(key, prefix) then
        found[key] = true
      end
    end
  end
end

local function in_string(list, env)
  local prefix = list[#list].text
  local role = role_of(list)
  local found = {}
  local value, kernel
  if role then
    value, kernel = value_before(list, role.before - 1, env)
    kernel = kernel or pure.kernel_of(value)
  end
  if value == nil or prefix:find("\\", 1, true) then
    return {}, prefix
  elseif not role.method then
    local cut = add_keys(found, value, kernel, prefix)
    return sorted(found), prefix, cut
  end
  local kind = (ARGUMENTS[role.method] or {})[role.argument]
  if kind == "member" then
    add_of_member(found, list, role, value, kernel, prefix)
  elseif kind and kernel then
    local names, cut = kernel_names.of(kernel, kind, prefix)
    add_all(found, names, prefix)
    return sorted(found), prefix, cut
  end
  return sorted(found), prefix
end

-- --- outside ---

local function global_names(env, prefix, commands, first)
  local found = {}
  add_fields(found, env, prefix, any)
  for word in pairs(show.keywords) do
    found[word] = starts_with(word, prefix) or found[word]
  end
  if first then
    add_all(found, commands, prefix)
  end
  return sorted(found)
end

-- Splits what is to be completed off: the tokens before it, and its beginning.
local function split(list, line)
  local token = list[#list]
  if token and token.kind == "name" and token.behind == #line + 1 then
    return #list - 1, token.text
  end
  return #list, ""
end

-- Whether a value ends right where a name would begin: that name is no field of it.
local function touches_value(token, at)
  return token.behind == at and (token.kind ~= "mark" or token.text:find "^[%)%]}]$") ~= nil
end

--- The names that the end of a line may become.
---@param line string up to the cursor
---@param env table the globals
---@param commands string[] words of the prompt itself
---@return string[] names sorted
---@return string prefix what is there of them
---@return boolean|nil cut there are more names
function complete.names(line, env, commands)
  local list = tokens.of(line)
  if list[#list] and list[#list].kind == "open" then
    return in_string(list, env)
  end
  local last, prefix = split(list, line)
  local token = list[last]
  if token and token.kind == "mark" and token.text:find "^[%.:]$" then
    local found = {}
    local value = value_before(list, last - 1, env)
    if value ~= nil then
      add_names(found, value, prefix, token.text)
    end
    return sorted(found), prefix
  elseif token and touches_value(token, #line + 1 - #prefix) then
    return {}, prefix
  end
  return global_names(env, prefix, commands, not token), prefix
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
local SHOWN = 200 -- of the names to choose from

-- Names side by side.
local function in_columns(names, cut)
  local width, count = 0, math.min(#names, SHOWN)
  for i = 1, count do
    width = math.max(width, #names[i] + 2)
  end
  local a_row = math.max(1, math.floor(WIDTH / width))
  local lines = {}
  for i = 1, count, a_row do
    local cells = {}
    for j = i, math.min(i + a_row - 1, count) do
      cells[#cells + 1] = names[j] .. (" "):rep(width - #names[j])
    end
    lines[#lines + 1] = (table.concat(cells):gsub("%s+$", ""))
  end
  if #names > count then
    lines[#lines + 1] = ("... (%s%d more)"):format(cut and "at least " or "", #names - count)
  end
  return table.concat(lines, "\n")
end

-- Text to insert, or a list to choose from.
local function present(names, prefix, cut)
  if #names == 0 then
    return nil
  end
  -- Of names that are not all here nobody can tell what they have in common.
  local insert = cut and "" or common_prefix(names):sub(#prefix + 1)
  if insert ~= "" then
    return insert
  end
  return nil, #names > 1 and in_columns(names, cut) or nil
end

--- What Tab does on a line: text to insert, or a list to choose from.
---@param line string up to the cursor
---@param env table
---@param commands string[]
---@return string|nil insert
---@return string|nil choice
function complete.line(line, env, commands)
  return present(complete.names(line, env, commands))
end

--- The same for an argument of a command, which is no Lua.
---@param k ktstr.Kernel
---@param kind string as kernel_names.of() has it
---@param prefix string
---@return string|nil insert
---@return string|nil choice
function complete.argument(k, kind, prefix)
  local names, cut = kernel_names.of(k, kind, prefix)
  local found = {}
  add_all(found, names, prefix)
  return present(sorted(found), prefix, cut)
end

return complete
