-- What goes wrong is raised as a table { code=, message=, hint= } whose tostring reads well.
-- Errors raised from C and from Lua share one metatable, so that a script sees one type.
local core = require "ktstr.core"

---@class ktstr.Error
---@field code string "invalid", "not-found", "format", "unsupported", "timeout", "ended", "busy", "os",
---  "no-memory", "interrupted"; "guest" when the guest's own system call failed
---@field message string one line: what was asked and what was found
---@field hint string|nil what to do
---@field detail string|nil more lines: the end of the guest's console
---@field cannot_run boolean|nil the work could not even begin: exit status 2 instead of 1
---@field errno integer|nil the guest's, with code "guest"
local errors = {}

local mt = core.error_metatable

function mt.__tostring(e)
  local text = tostring(e.message)
  if e.hint then
    text = text .. "; " .. e.hint
  end
  if e.detail and e.detail ~= "" then
    text = text .. "\n" .. e.detail
  end
  return text
end

--- Lua adds no position to an error that is a table.
---@param code string
---@param message string
---@param hint string|nil
---@param fields table|nil more fields
---@return ktstr.Error
function errors.new(code, message, hint, fields)
  local e = setmetatable({ code = code, message = message, hint = hint }, mt)
  for name, value in pairs(fields or {}) do
    e[name] = value
  end
  return e
end

---@param code string
---@param message string
---@param hint string|nil
---@param fields table|nil more fields
function errors.raise(code, message, hint, fields)
  error(errors.new(code, message, hint, fields), 0)
end

--- For bad input: the work cannot begin, and the program's exit status is 2.
---@param code string
---@param message string
---@param hint string|nil
function errors.refuse(code, message, hint)
  errors.raise(code, message, hint, { cannot_run = true })
end

---@param e any
---@param code string|nil
---@return boolean
function errors.is(e, code)
  return type(e) == "table" and getmetatable(e) == mt and (code == nil or e.code == code)
end

--- pcall(f, ...) for what may fail: a ktstr error is returned after a false. An interruption goes on its way,
--- and so does what is no such error: it is a mistake in the program.
---@return boolean, any
function errors.try(f, ...)
  local results = { pcall(f, ...) }
  if not results[1] and (not errors.is(results[2]) or results[2].code == "interrupted") then
    error(results[2], 0)
  end
  return unpack(results, 1, table.maxn(results))
end

--- Calls f(...); a ktstr error that it raises is raised again, marked as bad input. An interruption
--- stays what it is.
function errors.preparing(f, ...)
  local results = { pcall(f, ...) }
  if results[1] then
    return unpack(results, 2, table.maxn(results))
  end
  local e = results[2]
  if errors.is(e) and e.code ~= "interrupted" then
    e.cannot_run = true
  end
  error(e, 0)
end

return errors
