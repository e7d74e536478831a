-- Builds the guest's root file system: the agent as /init, ktstr-capture, busybox with its applets, what a
-- test adds.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local process = require "ktstr.process"

local initramfs = {}

-- Mounted over by the agent, or expected by programs.
local directories = {
  { "/proc", tonumber("555", 8) },
  { "/sys", tonumber("555", 8) },
  { "/dev", tonumber("755", 8) },
  { "/run", tonumber("755", 8) },
  { "/tmp", tonumber("1777", 8) },
  { "/root", tonumber("700", 8) },
  { "/etc", tonumber("755", 8) },
  { "/var/tmp", tonumber("1777", 8) },
  { "/usr/bin", tonumber("755", 8) },
  { "/mnt", tonumber("755", 8) },
}

local etc = {
  ["/etc/passwd"] = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
  ["/etc/group"] = "root:x:0:\nnogroup:x:65534:\n",
  ["/etc/hostname"] = "ktstr\n",
  ["/etc/hosts"] = "127.0.0.1 localhost\n::1 localhost\n",
  ["/etc/nsswitch.conf"] = "passwd: files\ngroup: files\nhosts: files\n",
}

local PLAIN, EXECUTABLE = tonumber("644", 8), tonumber("755", 8)

-- The agent loads what this file lists before it opens its channel.
local EARLY_MODULES = "/etc/ktstr/modules"

-- What the guest's programs ask for a capture with.
local CAPTURE = "/usr/bin/ktstr-capture"

local LOADER_CACHE = "/etc/ld.so.cache"

local applets_of = {}

--- The names that a busybox answers to; asked once.
---@param busybox string path on the host
---@return string[]
function initramfs.applets(busybox)
  if not applets_of[busybox] then
    local result = process.run { busybox, "--list" }
    if result.status ~= 0 then
      errors.raise("format", ("'%s --list' failed (%s)"):format(busybox, process.describe(result)),
        "it must be a static busybox for this host: run 'make' again")
    end
    local names = {}
    for name in result.stdout:gmatch "[^\n]+" do
      if name ~= "busybox" then
        names[#names + 1] = name
      end
    end
    applets_of[busybox] = names
  end
  return applets_of[busybox]
end

local function guest_program(name)
  local path = core.paths.guest .. "/" .. name
  if not host.is_readable(path) then
    errors.raise("not-found", ("the guest program %s is missing"):format(path), "run 'make' again")
  end
  return path
end

-- One entry a path: a test's own file takes the place of an applet of the same name.
local function add_host_file(entries, guest, path)
  if host.is_directory(path) then
    errors.raise("invalid", ("files: '%s' is a directory"):format(path), "name the files in it")
  elseif not host.is_readable(path) then
    errors.raise("not-found", ("files: there is no readable file '%s' on the host"):format(path))
  end
  entries[guest] = path
  local libraries = core.elf_needed(path)
  for _, library in ipairs(libraries) do
    entries[library] = entries[library] or library
  end
  -- Without it the guest's loader looks into the default directories alone.
  if #libraries > 0 and host.is_readable(LOADER_CACHE) then
    entries[LOADER_CACHE] = entries[LOADER_CACHE] or LOADER_CACHE
  end
end

local function check_guest_path(guest)
  if type(guest) ~= "string" or guest:sub(1, 1) ~= "/" or guest:find("/../", 1, true)
    or guest:match "/$" or guest:match "/%.%.$" then
    errors.raise("invalid", ("files: '%s' is not an absolute path in the guest"):format(tostring(guest)),
      'write "/host/path", or ["/guest/path"] = "host/path"')
  end
  return guest
end

-- Entry of `files`: a host path (put at the same absolute path), or guest = host.
local function collect_files(files)
  local entries = {}
  for key, path in pairs(files) do
    if type(path) ~= "string" then
      errors.raise("invalid", ("files: a path must be a string, not a %s"):format(type(path)))
    end
    local guest = key
    if type(key) == "number" then
      guest = path
      if path:sub(1, 1) ~= "/" then
        errors.raise("invalid", ("files: '%s' is a relative path, so its place in the guest is not clear")
          :format(path), ('write ["/usr/bin/%s"] = "%s"'):format(path:match "[^/]*$", path))
      end
    end
    add_host_file(entries, check_guest_path(guest), path)
  end
  return entries
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

-- Puts modules in, each once. Returns their paths in the guest, in load order.
local function add_modules(archive, list, directory, added)
  local paths = {}
  for i, module in ipairs(list) do
    local path = ("%s/%s"):format(directory, module.path)
    if not added[path] then
      archive:file(path, PLAIN, module.data)
      added[path] = true
    end
    paths[i] = path
  end
  return paths
end

--- Builds the archive. files: see ktstr.boot. modules, channel_modules: what ktstr.modules found; the agent
--- loads the latter by itself, before it can be asked. Raises "not-found", "invalid", "format".
---@param options { files: table|nil, modules: ktstr.Module[]|nil, channel_modules: ktstr.Module[]|nil,
---  module_directory: string|nil }
---@return userdata cpio, string[] module_paths where `modules` are in the guest, in load order
function initramfs.build(options)
  local archive = core.cpio()
  local entries = collect_files(options.files or {})

  for _, directory in ipairs(directories) do
    archive:dir(directory[1], directory[2])
  end
  archive:char_device("/dev/console", tonumber("600", 8), 5, 1)
  archive:char_device("/dev/null", tonumber("666", 8), 1, 3)
  archive:host_file("/init", EXECUTABLE, guest_program "agent")
  if not entries[CAPTURE] then
    archive:host_file(CAPTURE, EXECUTABLE, guest_program "ktstr-capture")
  end

  local busybox = guest_program "busybox"
  archive:host_file("/bin/busybox", EXECUTABLE, busybox)
  for _, name in ipairs(initramfs.applets(busybox)) do
    local path = "/bin/" .. name
    if not entries[path] then
      archive:symlink(path, "busybox")
    end
  end
  for _, path in ipairs(sorted_keys(etc)) do
    if not entries[path] then
      archive:file(path, PLAIN, etc[path])
    end
  end
  for _, guest in ipairs(sorted_keys(entries)) do
    archive:host_file(guest, nil, entries[guest])
  end

  local directory, added = options.module_directory, {}
  local early = add_modules(archive, options.channel_modules or {}, directory, added)
  if #early > 0 then
    archive:file(EARLY_MODULES, PLAIN, table.concat(early, "\n") .. "\n")
  end
  return archive, add_modules(archive, options.modules or {}, directory, added)
end

return initramfs
