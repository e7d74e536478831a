-- Which kernel a test means: one from the cache by its version, or a file or build tree by its path.

local stdlib = require "posix.stdlib"
local errors = require "ktstr.errors"
local cache = require "ktstr.kernels.cache"
local files = require "ktstr.files"
local version = require "ktstr.kernels.version"

local kernels = {}

-- What the whole library suggests to somebody without a kernel.
local FIRST = "debian:7.3"

--- Every kernel in the cache, the highest version first.
---@return ktstr.kernels.kernel[]
function kernels.list()
  return cache.kernels()
end

local function versions_of(list)
  local names, seen = {}, {}
  for _, kernel in ipairs(list) do
    if not seen[kernel.version] then
      seen[kernel.version] = true
      table.insert(names, 1, kernel.version)
    end
  end
  return #names > 0 and table.concat(names, ", ") or "none"
end

--- Says that no cached kernel is the one asked for, and what there is.
---@param wanted string
function kernels.raise_not_cached(wanted)
  wanted = wanted:gsub("^%a+:", "")
  local have = versions_of(cache.kernels())
  errors.refuse("not-found", ("kernel '%s' is not cached (have: %s)"):format(wanted, have),
    ("try 'ktstr kernel get debian:%s'"):format(wanted))
end

-- Whether a cached kernel is one that a version, a release or the beginning of one names.
local function is_named(wanted)
  local distribution, number = wanted:match "^(%a+):(.*)$"
  number = number or wanted
  return function(kernel)
    local same = version.matches(number, kernel.version) or version.matches(number, kernel.release)
    return same and (not distribution or distribution == kernel.meta.distribution)
  end
end

--- The cached kernels that a version, a release or the beginning of one names, the highest first.
---@param wanted string "7.3", "debian:7.3", "7.3.4+deb13-cloud-amd64"
---@return ktstr.kernels.kernel[]
function kernels.find(wanted)
  return cache.kernels(is_named(wanted))
end

local function existing(path)
  return path and files.exists(path) and path or nil
end

-- A built kernel tree. Its bzImage is booted, since only that has relocation tables; the vmlinux
-- beside it has the symbols.
local function from_tree(path)
  local bzimage = existing(path .. "/arch/x86/boot/bzImage")
  local vmlinux = existing(path .. "/vmlinux")
  if not bzimage and not vmlinux then
    errors.refuse("not-found",
      ("'%s' holds no built kernel (neither arch/x86/boot/bzImage nor vmlinux)"):format(path),
      "run 'make bzImage' there")
  end
  local release = (files.read(path .. "/include/config/kernel.release") or ""):match "%S+"
  return {
    path = bzimage or vmlinux,
    tree = path,
    bzimage = bzimage,
    vmlinux = vmlinux,
    release = release or require("ktstr.core").kernel_info(bzimage or vmlinux).release,
    config = existing(path .. "/.config"),
    modules = existing(path .. "/modules.order") and path,
  }
end

local function from_file(path)
  local info = require("ktstr.core").kernel_info(path)
  local directory = path:match "^(.*)/[^/]*$"
  local release = info.release
  return {
    path = path,
    bzimage = info.format == "bzImage" and path or nil,
    vmlinux = info.format == "vmlinux" and path or nil,
    release = release,
    -- As a distribution installs them beside an image.
    config = release and existing(directory .. "/config-" .. release) or nil,
    modules = release and existing("/lib/modules/" .. release) or nil,
  }
end

local function from_path(spec)
  local path = spec:gsub("^~/", (os.getenv "HOME" or "~") .. "/")
  path = stdlib.realpath(path)
  if not path then
    errors.refuse("not-found", ("there is no kernel '%s'"):format(spec),
      "give a cached version (see 'ktstr kernel list'), a bzImage, a vmlinux or a kernel build tree")
  end
  -- With its modules, which a file alone does not tell of.
  local kernel = cache.holding(path)
  if kernel then
    return kernel
  end
  kernel = files.is_directory(path) and from_tree(path) or from_file(path)
  kernel.version = kernel.release and version.upstream(kernel.release)
  kernel.source = spec
  return kernel
end

local function default()
  local highest = cache.highest()
  if not highest then
    errors.refuse("not-found", "no kernel is cached", ("try 'ktstr kernel get %s'"):format(FIRST))
  end
  return highest
end

--- The kernel that a spec means.
---
--- A version or its beginning by component ("7.3" means 7.3.4, "6.1" does not mean 6.12; the highest
--- wins), a release string, "debian:7.3", or the path of a bzImage, a vmlinux or a kernel build tree.
--- Raises "not-found", or what ktstr.core.kernel_info raises for a file that is no kernel.
---@param spec string|nil nil: what KTSTR_KERNEL says, else the highest cached one
---@return ktstr.kernels.kernel
function kernels.resolve(spec)
  if spec == nil then
    local from_environment = os.getenv "KTSTR_KERNEL"
    if not from_environment or from_environment == "" then
      return default()
    end
    local ok, result = pcall(kernels.resolve, from_environment)
    if not ok then
      if errors.is(result) then
        result.message = "KTSTR_KERNEL: " .. result.message
      end
      error(result, 0)
    end
    return result
  end
  if type(spec) ~= "string" or spec == "" then
    errors.refuse("invalid", "a kernel is named by a string", ("try kernel = \"%s\""):format "7.3")
  end
  local distribution, number = spec:match "^(%a+):([^/]*)$"
  if distribution and distribution ~= "debian" then
    errors.refuse("invalid", ("'%s' names an unknown source of kernels (known: debian)"):format(spec))
  end
  if version.is_version(number or spec) and not spec:find("/", 1, true) then
    return cache.highest(is_named(spec)) or kernels.raise_not_cached(spec)
  end
  return from_path(spec)
end

--- A file with a kernel's debugging information that was named; whether it is of use shows when it is needed.
--- Raises "not-found".
---@param path string|nil
---@return string|nil its absolute path
function kernels.vmlinux(path)
  if path == nil then
    return nil
  end
  local found = stdlib.realpath((path:gsub("^~/", (os.getenv "HOME" or "~") .. "/")))
  if not found or not files.is_file(found) then
    errors.refuse("not-found", ("there is no vmlinux '%s'"):format(path),
      "it is the kernel's, with its debugging information (DWARF): of a build tree, or of a debug package")
  end
  return found
end

--- `ktstr kernel ...`.
---@param args string[] what follows "kernel"
---@return integer exit status
function kernels.main(args)
  return require("ktstr.kernels.command"):main(args)
end

return kernels
