-- ktstr's directory in the user's cache: kernels, package lists and saved machines are below it.
local errors = require "ktstr.errors"

local user_cache = {}

--- ${XDG_CACHE_HOME:-~/.cache}/ktstr; nil where the environment names no place.
---@return string|nil
function user_cache.find()
  local xdg, home = os.getenv "XDG_CACHE_HOME", os.getenv "HOME"
  if xdg and xdg:sub(1, 1) == "/" then
    return xdg .. "/ktstr"
  end
  return home and home ~= "" and home .. "/.cache/ktstr" or nil
end

--- The same; raises "invalid" where there is none.
---@return string
function user_cache.root()
  return user_cache.find() or errors.refuse("invalid", "neither XDG_CACHE_HOME nor HOME is set",
    "set one: kernels and saved machines are kept below it")
end

return user_cache
