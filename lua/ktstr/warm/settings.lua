-- Where saved machines are kept, and how much room they may take.
local errors = require "ktstr.errors"
local size = require "ktstr.size"
local user_cache = require "ktstr.user_cache"

local settings = {}

--- Of the directory: what a machine had in its memory is its user's.
settings.MODE = tonumber("700", 8)

local DEFAULT_LIMIT = 4 * 2 ^ 30

local function given_directory()
  local directory = os.getenv "KTSTR_WARM_DIR"
  return directory ~= "" and directory or nil
end

--- Whether the environment names a place for saved machines: a user without a home has none.
---@return boolean
function settings.has_directory()
  return given_directory() ~= nil or user_cache.find() ~= nil
end

--- ${KTSTR_WARM_DIR}, or warm/ in the user's cache. It need not be there.
---@return string
function settings.directory()
  local directory = given_directory()
  if not directory then
    return user_cache.root() .. "/warm"
  elseif directory:sub(1, 1) ~= "/" then
    errors.refuse("invalid", ("KTSTR_WARM_DIR is '%s'"):format(directory), "it must be an absolute path")
  end
  return (directory:gsub("(.)/+$", "%1"))
end

--- Bytes that all of them may take: ${KTSTR_WARM_LIMIT}, 4 GiB by default.
---@return number
function settings.limit()
  local limit = os.getenv "KTSTR_WARM_LIMIT"
  return limit and limit ~= "" and size.parse(limit, "KTSTR_WARM_LIMIT") or DEFAULT_LIMIT
end

return settings
