-- The kernel cache: one directory a kernel in ${XDG_CACHE_HOME:-~/.cache}/ktstr/kernels, named by its
-- release string, complete or not there at all.
--
--   <release>/bzImage  vmlinux  config  release  modules/  meta.json
--
-- A kernel is put together in a directory named .tmp-* beside them, under the lock, and renamed when
-- it is complete. What a killed run left is removed by the next one that holds the lock.

local stdlib = require "posix.stdlib"
local unistd = require "posix.unistd"
local json = require "dkjson"
local errors = require "ktstr.errors"
local files = require "ktstr.files"
local lock = require "ktstr.lock"
local process = require "ktstr.process"
local user_cache = require "ktstr.user_cache"
local version = require "ktstr.kernels.version"

local TEMPORARY = ".tmp-"

local cache = {}

---@return string
function cache.directory()
  return user_cache.root() .. "/kernels"
end

---@class ktstr.kernels.kernel
---@field path string the image to boot: vmlinux where there is one
---@field bzimage string|nil
---@field vmlinux string|nil
---@field release string|nil
---@field version string upstream's version
---@field modules string|nil directory laid out as /lib/modules/<release>
---@field config string|nil
---@field source string where it came from: "debian:7.3", or a path
---@field meta table|nil what meta.json says

local function load_kernel(directory, release)
  local meta = json.decode(files.read(directory .. "/meta.json") or "")
  if type(meta) ~= "table" or not files.is_file(directory .. "/bzImage") then
    return nil
  end
  local function existing(name, check)
    local path = directory .. "/" .. name
    return check(path) and path or nil
  end
  local kernel = {
    bzimage = directory .. "/bzImage",
    vmlinux = existing("vmlinux", files.is_file),
    config = existing("config", files.is_file),
    modules = existing("modules", files.is_directory),
    release = release,
    version = meta.version or release,
    source = meta.source,
    meta = meta,
    directory = directory,
  }
  kernel.path = kernel.vmlinux or kernel.bzimage
  return kernel
end

--- Every kernel in the cache, the highest version first.
---@return ktstr.kernels.kernel[]
function cache.kernels()
  local kernels = {}
  for _, name in ipairs(files.list(cache.directory())) do
    if name:sub(1, 1) ~= "." then
      kernels[#kernels + 1] = load_kernel(cache.directory() .. "/" .. name, name)
    end
  end
  table.sort(kernels, function(a, b)
    local order = version.compare(a.meta.package_version or a.version, b.meta.package_version or b.version)
    if order == 0 then
      order = version.compare(a.release, b.release)
    end
    return order > 0
  end)
  return kernels
end

--- Calls work(directory) with a new temporary directory in the cache while no other process changes
--- the cache, and removes the directory whatever happens.
---@param waiting fun() called when another process holds the lock
---@param work fun(directory: string): any
function cache.with_temporary(waiting, work)
  files.make_directory(cache.directory())
  return lock.with(cache.directory() .. "/.lock", waiting, function()
    for _, name in ipairs(files.list(cache.directory())) do
      if name:sub(1, #TEMPORARY) == TEMPORARY then
        files.remove(cache.directory() .. "/" .. name)
      end
    end
    local directory, message = stdlib.mkdtemp(cache.directory() .. "/" .. TEMPORARY .. "XXXXXX")
    if not directory then
      errors.raise("os", "cannot make a directory in the cache: " .. message)
    end
    local ok, result = pcall(work, directory)
    process.finish(files.remove, directory)
    if not ok then
      error(result, 0)
    end
    return result
  end)
end

--- Gives a finished kernel its place in the cache, instead of an earlier one of the same release.
--- directory holds bzImage and what goes with it; the lock is held.
---@param directory string
---@param release string
---@param meta table
---@return ktstr.kernels.kernel
function cache.install(directory, release, meta)
  files.write(directory .. "/release", release .. "\n")
  files.write(directory .. "/meta.json", json.encode(meta, { indent = true }) .. "\n")
  local place = cache.directory() .. "/" .. release
  local old = directory .. ".old"
  if files.exists(place) then
    files.rename(place, old)
  end
  files.rename(directory, place)
  files.remove(old)
  return load_kernel(place, release)
end

--- Takes a kernel out of the cache. A machine that runs from it keeps what it has mapped.
---@param kernel ktstr.kernels.kernel
function cache.remove(kernel)
  local away = ("%s/%srm-%d-%s"):format(cache.directory(), TEMPORARY, unistd.getpid(), kernel.release)
  files.rename(kernel.directory, away)
  files.remove(away)
end

return cache
