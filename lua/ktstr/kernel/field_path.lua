-- The paths that scripts give, as text: their steps (".curr", "[2]"), and alternatives for kernels that
-- differ ("cfs.h_nr_queued|cfs.h_nr_running"). What they lead to those say who know the types.
local errors = require "ktstr.errors"

local field_path = {}

---@class ktstr.PathStep
---@field kind "member"|"each"|"index"|"walk"
---@field name string|nil of a member
---@field index integer|nil
---@field type string|nil what a walk's elements are
---@field member string|nil what links them
---@field text string|nil the path up to here

--- The step at a place of a path, and where the next one begins; nil: there is none.
---@param text string
---@param at integer
---@return ktstr.PathStep|nil, integer|nil
function field_path.step(text, at)
  local name, after = text:match("^%.([%a_][%w_]*)()", at)
  if name then
    return { kind = "member", name = name }, after
  end
  local inside
  inside, after = text:match("^%[([^%]]*)%]()", at)
  if not inside then
    return nil
  elseif inside == "" then
    return { kind = "each" }, after
  elseif inside:match "^%d+$" then
    return { kind = "index", index = tonumber(inside) }, after
  end
  local type, member = inside:match "^([%a_][%w_ ]*)%.([%w_%.]+)$"
  type = type or inside:match "^[%a_][%w_ ]*$"
  if not type then
    return nil
  end
  return { kind = "walk", type = type, member = member }, after
end

--- "a|b|" as { "a", "b" }, and whether there may be none of them.
---@param text string
---@return string[], boolean
function field_path.alternatives(text)
  local list = {}
  for one in text:gmatch "[^|]+" do
    list[#list + 1] = one:match "^%s*(.-)%s*$"
  end
  return list, text:sub(-1) == "|"
end

--- What find(alternative) returns for the first one that the kernel has: where it raises "not-found" the next
--- one is tried, any other error is raised. nil: it has none of them, and the errors.
---@generic T
---@param list string[]
---@param find fun(alternative: string): T
---@return T|nil found
---@return ktstr.Error[] failures
function field_path.first(list, find)
  local failures = {}
  for _, one in ipairs(list) do
    local ok, found = pcall(find, one)
    if ok then
      return found, failures
    elseif not errors.is(found, "not-found") then
      error(found, 0)
    end
    failures[#failures + 1] = found
  end
  return nil, failures
end

--- Why there is none, for an error of several.
---@param list string[]
---@param failures ktstr.Error[]
---@return string
function field_path.reasons(list, failures)
  local reasons = {}
  for i, failure in ipairs(failures) do
    reasons[i] = failure.message:gsub("^plan: ", "")
  end
  return ("the kernel has none of %s: %s"):format(table.concat(list, ", "), table.concat(reasons, "; "))
end

return field_path
