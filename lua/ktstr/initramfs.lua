-- Builds the guest's root file system: the agent as /init, the programs that ask the host for something,
-- busybox with its applets, what a test adds.
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

-- What the guest's programs ask the host with: for a capture, for operations on the kernel's memory.
local ASKING = { "ktstr-capture", "ktstr-kernel" }

local INIT, BUSYBOX = "/init", "/bin/busybox"

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

---@class ktstr.initramfs.Part
---@field kind "dir"|"char"|"file"
---@field path string in the guest
---@field mode integer|nil permission bits; nil: those of the host's file
---@field host string|nil the contents: a file of the host
---@field content string|nil the contents; of a character device "major:minor"

-- What every guest has, but for busybox's applets, which go with busybox.
local function own_parts()
  local parts = {}
  local function add(part)
    parts[#parts + 1] = part
  end
  for _, directory in ipairs(directories) do
    add { kind = "dir", path = directory[1], mode = directory[2] }
  end
  add { kind = "char", path = "/dev/console", mode = tonumber("600", 8), content = "5:1" }
  add { kind = "char", path = "/dev/null", mode = tonumber("666", 8), content = "1:3" }
  add { kind = "file", path = INIT, mode = EXECUTABLE, host = initramfs.agent() }
  for _, name in ipairs(ASKING) do
    add { kind = "file", path = "/usr/bin/" .. name, mode = EXECUTABLE, host = guest_program(name) }
  end
  add { kind = "file", path = BUSYBOX, mode = EXECUTABLE, host = guest_program "busybox" }
  for _, path in ipairs(sorted_keys(etc)) do
    add { kind = "file", path = path, mode = PLAIN, content = etc[path] }
  end
  return parts
end

-- Adds modules, each once. Returns their paths in the guest, in load order.
local function add_modules(parts, list, directory, added)
  local paths = {}
  for i, module in ipairs(list) do
    local path = ("%s/%s"):format(directory, module.path)
    if not added[path] then
      parts[#parts + 1] = { kind = "file", path = path, mode = PLAIN, content = module.data }
      added[path] = true
    end
    paths[i] = path
  end
  return paths
end

--- The agent on the host.
---@return string
function initramfs.agent()
  return guest_program "agent"
end

--- What a test's own files come to: with the libraries that they need. Raises "not-found", "invalid".
---@param files table|nil see ktstr.boot
---@return ktstr.initramfs.Part[] in the order of their paths
function initramfs.files(files)
  local entries, parts = collect_files(files or {}), {}
  for i, guest in ipairs(sorted_keys(entries)) do
    parts[i] = { kind = "file", path = guest, host = entries[guest] }
  end
  return parts
end

--- All that an archive is to have. modules, channel_modules: what ktstr.modules found; the agent loads the
--- latter by itself, before it can be asked. Raises "not-found".
---@param options { modules: ktstr.Module[]|nil, channel_modules: ktstr.Module[]|nil,
---  module_directory: string|nil }
---@return ktstr.initramfs.Part[] parts, string[] module_paths where `modules` are in the guest, in load order
function initramfs.parts(options)
  local parts, added = own_parts(), {}
  local early = add_modules(parts, options.channel_modules or {}, options.module_directory, added)
  if #early > 0 then
    parts[#parts + 1] = { kind = "file", path = EARLY_MODULES, mode = PLAIN,
      content = table.concat(early, "\n") .. "\n" }
  end
  return parts, add_modules(parts, options.modules or {}, options.module_directory, added)
end

--- Bytes of their contents, which is all but a few KiB of an archive of them.
---@param ... ktstr.initramfs.Part[]
---@return number
function initramfs.size(...)
  local bytes = 0
  for _, parts in ipairs { ... } do
    for _, part in ipairs(parts) do
      bytes = bytes + (part.host and host.size(part.host) or #(part.content or ""))
    end
  end
  return bytes
end

local adders = {}

function adders.dir(archive, part)
  archive:dir(part.path, part.mode)
end

function adders.char(archive, part)
  local major, minor = part.content:match "^(%d+):(%d+)$"
  archive:char_device(part.path, part.mode, tonumber(major), tonumber(minor))
end

function adders.file(archive, part)
  if part.host then
    archive:host_file(part.path, part.mode, part.host)
  else
    archive:file(part.path, part.mode, part.content)
  end
end

--- Builds the archive of parts, with busybox's applets; one of `files` takes the place of a part or an applet
--- of the same path. Raises "not-found", "format".
---@param parts ktstr.initramfs.Part[]
---@param files ktstr.initramfs.Part[]
---@return userdata cpio
function initramfs.pack(parts, files)
  local archive = core.cpio()
  local theirs = {}
  for _, part in ipairs(files) do
    theirs[part.path] = true
  end
  for _, part in ipairs(parts) do
    if not theirs[part.path] or part.path == INIT or part.path == BUSYBOX then
      adders[part.kind](archive, part)
    end
  end
  for _, name in ipairs(initramfs.applets(guest_program "busybox")) do
    if not theirs["/bin/" .. name] then
      archive:symlink("/bin/" .. name, "busybox")
    end
  end
  for _, part in ipairs(files) do
    adders.file(archive, part)
  end
  return archive
end

--- The archive of everything at once: what initramfs.parts() and initramfs.files() take.
---@param options { files: table|nil, modules: ktstr.Module[]|nil, channel_modules: ktstr.Module[]|nil,
---  module_directory: string|nil }
---@return userdata cpio, string[] module_paths
function initramfs.build(options)
  local parts, module_paths = initramfs.parts(options)
  return initramfs.pack(parts, initramfs.files(options.files)), module_paths
end

return initramfs
