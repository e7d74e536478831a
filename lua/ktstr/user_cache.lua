-- ktstr's directory in the user's cache: kernels, package lists and saved machines are below it.
local errors = require "ktstr.errors"

local user_cache = {}

--- ${XDG_CACHE_HOME:-~/.cache}/ktstr. Raises "invalid" where the environment names no place.
---@return string
function user_cache.root()
  local xdg = os.getenv "XDG_CACHE_HOME"
  if xdg and xdg:sub(1, 1) == "/" then
    return xdg .. "/ktstr"
  end
  local home = os.getenv "HOME"
  if not home or home == "" then
    errors.raise("invalid", "neither XDG_CACHE_HOME nor HOME is set",
      "set one: kernels and saved machines are kept below it")
  end
  return home .. "/.cache/ktstr"
end

return user_cache
