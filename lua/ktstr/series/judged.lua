-- Classes of what statements are made about: a series, each of its samples, a ratio of two phases.
-- A statement is object:name(...) -> whether it holds, finding: so assert(object:name(...)) raises the
-- finding. Under t:expect(object, label) it is recorded instead.
local errors = require "ktstr.errors"
local nearest = require "ktstr.nearest"
local options = require "ktstr.options"

local judged = {}

-- object:name(...) under t:expect.
local function expectation(class, object, label, record)
  return setmetatable({}, { __index = function(_, name)
    if class.judges[name] then
      return function(_, ...)
        local finding = class.judges[name](object, ...)
        finding.where = label and ("%s: %s"):format(label, finding.where) or finding.where
        record(finding)
        return finding.status == "pass"
      end
    elseif class.views[name] then
      return function(_, ...)
        local view = object[name](object, ...)
        return getmetatable(view).__expect(view, label, record)
      end
    end
    local names = options.names(class.judges)
    for view in pairs(class.views) do
      names[#names + 1] = view
    end
    errors.raise("not-found", ("%s has no statement '%s'"):format(class.what, tostring(name)),
      class.hints[name] or nearest.hint(tostring(name), names))
  end })
end

--- A class whose methods are those statements.
---@param what string "a series"
---@param judges table<string, fun(object: table, ...): ktstr.SeriesFinding>
---@param views table<string, fun(object: table, ...): table>|nil further methods, whose results are judged
---@param hints table<string, string>|nil what to do for statements that there are not
---@return table
function judged.class(what, judges, views, hints)
  local class = { what = what, judges = judges, views = views or {}, hints = hints or {} }
  class.__index = {}
  for name, judge in pairs(judges) do
    class.__index[name] = function(object, ...)
      local finding = judge(object, ...)
      return finding.status == "pass", finding
    end
  end
  for name, view in pairs(class.views) do
    class.__index[name] = view
  end
  function class.__expect(object, label, record)
    return expectation(class, object, label, record)
  end
  return class
end

return judged
