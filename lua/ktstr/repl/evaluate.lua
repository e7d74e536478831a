-- What is typed at the prompt, as a chunk: parsed, run, and what it raised in words.
local errors = require "ktstr.errors"
local show = require "ktstr.repl.show"

local evaluate = {}

local CHUNK = "=prompt"

-- The parser came to the end and wanted more. A string in quotes ends with its line, unless that ends in "\".
local function wants_more(message, text)
  if not message:find "near '<eof>'$" then
    return false
  end
  return not message:find "unfinished string" or text:sub(-1) == "\\"
end

--- A chunk made ready for the prompt. Compiled loops do not look whether a signal came: Ctrl-C could not end
--- one.
---@param chunk function
---@param env table the globals that it sees
---@return function
function evaluate.prepare(chunk, env)
  jit.off(chunk, true)
  return setfenv(chunk, env)
end

-- "return f()" is a tail call: a fault in f could no longer say which line called it. So what can be an
-- argument is evaluated as one.
local function load_expression(text)
  local chunk, message = loadstring("return " .. text, CHUNK)
  local as_argument = "return (function(...) return ... end)(" .. text .. "\n)"
  return chunk and loadstring(as_argument, CHUNK) or chunk, message
end

--- Parses what was typed so far: "=x" and a bare expression, too.
---@param text string
---@param env table the globals that it sees
---@return function|nil chunk
---@return string|nil message what is wrong; nil: there is more to come
function evaluate.parse(text, env)
  local expression = text:match "^%s*=(.*)$"
  local chunk, expression_message = load_expression(expression or text)
  if chunk then
    return evaluate.prepare(chunk, env)
  end
  if wants_more(expression_message, text) then
    return nil, nil
  elseif expression then
    return nil, expression_message
  end
  local message
  chunk, message = loadstring(text, CHUNK)
  if chunk then
    return evaluate.prepare(chunk, env)
  end
  return nil, not wants_more(message, text) and message or nil
end

-- The calls up to the prompt's own.
local function traceback_above(level)
  local lines = {}
  for line in debug.traceback("", level + 1):gmatch "[^\n]+" do
    if line:find("repl/evaluate.lua", 1, true) or line:find "in function 'xpcall'" then
      break
    end
    lines[#lines + 1] = line
  end
  return table.concat(lines, "\n")
end

--- What was raised, in words: ktstr's own errors have message and hint, others where they came from.
---@param e any
---@return string
function evaluate.describe(e)
  local text
  if errors.is(e) then
    return tostring(e)
  elseif type(e) == "string" then
    text = e
  else
    text = show.value(e)
  end
  -- This handler, and the function that raised.
  return text .. "\n" .. traceback_above(3)
end

--- Calls a chunk. Every value that it returns, or what it raised, described.
---@param chunk function
---@return table|nil values with n
---@return string|nil description
function evaluate.call(chunk, ...)
  local results = { n = 0 }
  local function keep(...)
    results = { n = select("#", ...), ... }
    return results[1]
  end
  local raised
  local ok = keep(xpcall(chunk, function(e)
    raised = e
    local text = evaluate.describe(e)
    return text
  end, ...))
  if ok then
    return { n = results.n - 1, unpack(results, 2, results.n) }
  end
  if errors.is(raised, "interrupted") then
    error(raised, 0)
  end
  return nil, tostring(results[2])
end

return evaluate
