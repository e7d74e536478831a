-- The cache of saved machines: finds the one of an identity, keeps a new one, and stays within its limit.
-- A run never fails because of it: what is wrong is said once, and the machine is booted afresh.
local statvfs = require "posix.sys.statvfs"
local unistd = require "posix.unistd"
local core = require "ktstr.core"
local directory = require "ktstr.warm.directory"
local errors = require "ktstr.errors"
local files = require "ktstr.files"
local identity = require "ktstr.warm.identity"
local settings = require "ktstr.warm.settings"
local size = require "ktstr.size"

local cache = {}

local SHORT = 12

--- How an entry is called towards people; `ktstr warm` takes it.
---@param entry ktstr.warm.Entry
---@return string
function cache.short_name(entry)
  return entry.name:sub(1, SHORT)
end

local told = {}

-- Once a process for each key.
local function warn(key, format, ...)
  if not told[key] then
    told[key] = true
    io.stdout:flush()
    io.stderr:write("ktstr: warning: ", format:format(...), "\n")
  end
end

-- Calls f(...); an interruption goes on its way, another error is returned after a false.
local function try(f, ...)
  local results = { pcall(f, ...) }
  if not results[1] and errors.is(results[2], "interrupted") then
    error(results[2], 0)
  end
  return unpack(results, 1, table.maxn(results))
end

local function remove_one(entry)
  return #directory.remove(function()
    return { entry }
  end) > 0
end

-- What is wrong, in a line, without what core.image_open begins with: which entry that is stands beside it.
local function reason_of(entry, e)
  local reason = errors.is(e) and e.message or tostring(e)
  local prefix = ("saved machine '%s': "):format(entry.path)
  return reason:sub(1, #prefix) == prefix and reason:sub(#prefix + 1) or reason
end

local function about(entry, e)
  return ("saved machine '%s': %s"):format(entry.path, reason_of(entry, e))
end

--- Takes an entry that is of no use out of the cache, and says so. What has taken its place meanwhile stays.
---@param entry ktstr.warm.Entry
---@param reason any what is wrong with it
function cache.discard(entry, reason)
  local ok, e = try(remove_one, entry)
  warn(entry.path, "%s; %s", about(entry, reason),
    ok and "it was removed" or ("it cannot be removed: %s"):format(tostring(e)))
end

--- Says that an entry cannot be used here and now, which is no fault of its own.
---@param entry ktstr.warm.Entry
---@param reason any
function cache.pass_over(entry, reason)
  warn(entry.path, "the saved machine %s cannot be started: %s", entry.path, tostring(reason))
end

-- An entry that cannot be opened; the error is core.image_open's.
local function judge(entry, e)
  if errors.is(e, "format") then
    cache.discard(entry, e)
  elseif not errors.is(e, "not-found") then
    warn(entry.path, "%s", about(entry, e))
  else
    -- Removed a moment ago, which is nothing to speak of; or a part of it is missing.
    local now = directory.entry(entry.name)
    if now and now.id == entry.id then
      cache.discard(entry, e)
    end
  end
end

--- The saved machine of that identity, marked as used; nil when there is none that is whole.
---@param text string ktstr.warm.identity's
---@return userdata|nil image
---@return ktstr.warm.Entry|nil entry for discard(), should it turn out to be of no use
function cache.find(text)
  settings.limit() -- a variable that makes no sense is said before the boot rather than after it
  local entry = directory.entry(identity.name(text))
  if not entry then
    return nil
  elseif entry.owner ~= unistd.geteuid() then
    -- Its checksums say that it is whole, not whose work it is; and its owner may change it while it is
    -- mapped.
    warn(entry.path, "%s", about(entry, "it is another user's, and is not used"))
    return nil
  end
  local ok, image = try(core.image_open, entry.path)
  if not ok then
    judge(entry, image)
    return nil
  end
  local saved = image:identity()
  if saved ~= text then
    image:close()
    cache.discard(entry, "it is another machine than its name says: " .. identity.difference(text, saved))
    return nil
  end
  require("ktstr.file_status").touch(entry.path)
  return image, entry
end

-- The limit, and never more than half of what the file system could hold of it.
local function room(held)
  local limit = settings.limit()
  local info = statvfs.statvfs(settings.directory())
  local free = info and info.f_bavail * info.f_frsize
  return free and math.min(limit, math.floor((free + held) / 2)) or limit
end

local function warn_too_big(entry, most)
  warn("too big", "a saved machine of %s is not kept: the cache %s may hold %s; %s", size.format(entry.size),
    settings.directory(), size.format(most), most < settings.limit()
      and "that is half of what its disk has left, so free some, or set KTSTR_WARM_DIR to a larger place"
      or "KTSTR_WARM_LIMIT changes that")
end

-- What has to go, the least recently used first. One that is too big for the cache goes alone.
local function choose_excess(name)
  local entries = directory.scan()
  local held, excess = 0, {}
  for _, entry in ipairs(entries) do
    held = held + entry.size
  end
  local most = room(held)
  for _, entry in ipairs(entries) do
    if entry.name == name and entry.size > most then
      warn_too_big(entry, most)
      return { entry }
    end
  end
  for i = #entries, 1, -1 do
    if held > most and entries[i].name ~= name then
      excess[#excess + 1] = entries[i]
      held = held - entries[i].size
    end
  end
  return excess
end

--- Removes the least recently used until the rest is within the limit.
---@param name string|nil the entry that stays, unless it is bigger than the limit itself
---@return ktstr.warm.Entry[] what was removed
function cache.trim(name)
  return directory.remove(function()
    return choose_excess(name)
  end)
end

--- Where an image that is to be stored takes its room; made when it is not there.
--- Raises "os", "no-space".
---@return string
function cache.directory()
  directory.make()
  return settings.directory()
end

--- Says, once a process, that a machine could not be saved. The cache makes some room for the next attempt.
---@param e any
function cache.give_up(e)
  warn("store", "the machine is not kept for the next run: %s", tostring(e))
  if files.is_directory(settings.directory()) then
    try(directory.sweep)
    try(cache.trim)
  end
end

--- Keeps an image under its identity. Somebody else may have been faster: then theirs stays.
---@param text string
---@param image userdata
---@return boolean whether the cache has one now
function cache.store(text, image)
  local name = identity.name(text)
  local ok, e = try(function()
    image:publish(cache.directory() .. "/" .. name)
  end)
  if not ok and not errors.is(e, "busy") then
    cache.give_up(e)
    return false
  end
  if ok then
    try(directory.sweep)
    ok, e = try(cache.trim, name)
    if not ok then
      warn("trim", "the saved machines cannot be kept within their limit: %s", tostring(e))
    end
  end
  return directory.entry(name) ~= nil
end

---@class ktstr.warm.Known : ktstr.warm.Entry an entry, looked into
---@field state "ok"|"stale"|"damaged" stale: saved by another build of ktstr, so of no use to this one
---@field reason string|nil what is wrong with it
---@field identity table<string, string>|nil

-- nil when it has gone.
local function look_into(entry)
  local ok, image = try(core.image_open, entry.path)
  local text
  if ok then
    text = image:identity()
    image:close()
  elseif not directory.entry(entry.name) then
    return nil
  end
  entry.identity = text and identity.parse(text)
  if not text then
    entry.state, entry.reason = "damaged", reason_of(entry, image)
  elseif identity.name(text) ~= entry.name then
    entry.state, entry.reason = "damaged", "it is another machine than its name says"
  elseif entry.identity.ktstr ~= identity.program() then
    entry.state, entry.reason = "stale", "it was saved by another build of ktstr"
  else
    entry.state = "ok"
  end
  return entry
end

--- Every saved machine, looked into, the one used last first.
---@return ktstr.warm.Known[]
function cache.list()
  local known = {}
  for _, entry in ipairs(directory.scan()) do
    known[#known + 1] = look_into(entry)
  end
  return known
end

--- Reads all of one. Returns true, or false and what is wrong; nil when it has gone.
---@param entry ktstr.warm.Entry
---@return boolean|nil, string|nil
function cache.verify(entry)
  local ok, image = try(core.image_open, entry.path)
  if not ok then
    if directory.entry(entry.name) then
      return false, reason_of(entry, image)
    end
    return nil
  end
  local e
  ok, e = try(image.verify, image)
  image:close()
  return ok, not ok and reason_of(entry, e) or nil
end

--- Every saved machine, without a look into it.
---@return ktstr.warm.Entry[]
function cache.names()
  return directory.scan()
end

--- Removes what killed processes left, and with `all` the hashes of the host's files too, which are taken
--- again.
---@param all boolean|nil
---@return integer count of what was left, number bytes
function cache.sweep(all)
  if all then
    files.remove(settings.directory() .. "/hashes")
  end
  return directory.sweep()
end

--- Removes entries. Raises "os".
---@param entries ktstr.warm.Entry[]
---@return ktstr.warm.Entry[] those that were still there
function cache.remove(entries)
  if #entries == 0 then
    return {}
  end
  return directory.remove(function()
    return entries
  end)
end

return cache
