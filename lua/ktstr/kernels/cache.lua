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

-- What meta.json says of one; nil when there is none.
local function read_meta(directory, release)
  local meta = json.decode(files.read(directory .. "/meta.json") or "")
  if type(meta) ~= "table" then
    return nil
  end
  return {
    release = release,
    version = meta.version or release,
    source = meta.source,
    meta = meta,
    directory = directory,
  }
end

-- With the paths of its files; nil when it has no image.
local function complete(kernel)
  local function existing(name, check)
    local path = kernel.directory .. "/" .. name
    return check(path) and path or nil
  end
  kernel.bzimage = existing("bzImage", files.is_file)
  kernel.vmlinux = existing("vmlinux", files.is_file)
  kernel.config = existing("config", files.is_file)
  kernel.modules = existing("modules", files.is_directory)
  kernel.path = kernel.vmlinux or kernel.bzimage
  return kernel.bzimage and kernel
end

local function load_kernel(directory, release)
  local kernel = read_meta(directory, release)
  return kernel and complete(kernel)
end

local function is_higher(a, b)
  local order = version.compare(a.meta.package_version or a.version, b.meta.package_version or b.version)
  if order == 0 then
    order = version.compare(a.release, b.release)
  end
  return order > 0
end

-- Those in the cache that are wanted, the highest version first; their files have not been looked for.
local function find(wanted)
  local kernels = {}
  for _, name in ipairs(files.list(cache.directory())) do
    local kernel = name:sub(1, 1) ~= "." and read_meta(cache.directory() .. "/" .. name, name)
    if kernel and wanted(kernel) then
      kernels[#kernels + 1] = kernel
    end
  end
  table.sort(kernels, is_higher)
  return kernels
end

local function anything()
  return true
end

--- The kernels in the cache, the highest version first.
---@param wanted nil|fun(kernel: ktstr.kernels.kernel): boolean those of which this is true; nil: all
---@return ktstr.kernels.kernel[]
function cache.kernels(wanted)
  local kernels = {}
  for _, kernel in ipairs(find(wanted or anything)) do
    kernels[#kernels + 1] = complete(kernel) or nil
  end
  return kernels
end

--- The cached kernel whose image a file is, in whatever cache it lies.
---@param path string without symbolic links
---@return ktstr.kernels.kernel|nil
function cache.holding(path)
  local directory, release, name = path:match "^(.*/([^/]+))/([^/]+)$"
  local kernel = (name == "bzImage" or name == "vmlinux") and load_kernel(directory, release) or nil
  if kernel then
    kernel.path = path
  end
  return kernel
end

--- The first of cache.kernels(), without a look at the others' files.
---@param wanted nil|fun(kernel: ktstr.kernels.kernel): boolean
---@return ktstr.kernels.kernel|nil
function cache.highest(wanted)
  for _, kernel in ipairs(find(wanted or anything)) do
    if complete(kernel) then
      return kernel
    end
  end
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
