-- A line's beginning as Lua's tokens: what stands before the cursor, which may end in the middle of a string.
local tokens = {}

---@class ktstr.Token
---@field kind "name"|"number"|"string"|"open"|"mark" open: a string that has not ended; mark: anything else
---@field text string of a string what is between its quotes
---@field start integer where it begins in the line
---@field behind integer one past its end

local QUOTES = { ['"'] = true, ["'"] = true }

-- Where a string's closing quote is; nil: it has none.
local function quote_end(line, at)
  local quote = line:sub(at, at)
  local i = at + 1
  while i <= #line do
    local c = line:sub(i, i)
    if c == quote then
      return i
    end
    i = i + (c == "\\" and 2 or 1)
  end
end

local function quoted(line, at)
  local last = quote_end(line, at)
  if last then
    return { kind = "string", text = line:sub(at + 1, last - 1), start = at, behind = last + 1 }
  end
  return { kind = "open", text = line:sub(at + 1), start = at, behind = #line + 1 }
end

-- [[text]]; whether a comment goes on to the line's end is of no interest to who completes.
local function long_string(line, at)
  local bracket = line:match("^%[(=*)%[", at)
  if not bracket then
    return nil
  end
  local first = at + #bracket + 2
  local last, behind = line:find("]" .. bracket .. "]", first, true)
  return { kind = last and "string" or "mark", text = line:sub(first, (last or 0) - 1), start = at,
    behind = (behind or #line) + 1 }
end

local function matching(line, at, kind, pattern)
  local text = line:match("^" .. pattern, at)
  return text and { kind = kind, text = text, start = at, behind = at + #text }
end

local function next_token(line, at)
  return matching(line, at, "name", "[%a_][%w_]*")
    or matching(line, at, "number", "%d[%w%.]*")
    or QUOTES[line:sub(at, at)] and quoted(line, at)
    or long_string(line, at)
    or matching(line, at, "mark", "%.%.%.?")
    or matching(line, at, "mark", ".")
end

--- All tokens of a line.
---@param line string
---@return ktstr.Token[]
function tokens.of(line)
  local list = {}
  local at = line:match "^%s*()"
  while at <= #line do
    local token = next_token(line, at)
    list[#list + 1] = token
    at = line:match("^%s*()", token.behind)
  end
  return list
end

return tokens
