-- `ktstr kernel`: gets, lists, finds and removes cached kernels.

local json = require "dkjson"
local errors = require "ktstr.errors"
local files = require "ktstr.files"
local subcommands = require "ktstr.subcommands"
local cache = require "ktstr.kernels.cache"
local kernels = require "ktstr.kernels"
local version = require "ktstr.kernels.version"

local HELP = {
  kernel = [[
Usage: ktstr kernel COMMAND [ARGS]

  get SPEC...         fetch distribution kernels into the cache
  list                say what is in the cache
  path SPEC [WHAT]    print where a kernel's image (or another file of it) is
  rm SPEC...          remove kernels from the cache

'ktstr kernel COMMAND --help' says more. The cache is %s.
]],
  get = [[
Usage: ktstr kernel get [--flavour NAME] SPEC...

Fetches kernels into the cache, with their modules, and decompresses their images.

SPEC is debian:VERSION: a version or its beginning by component (debian:7.3, debian:6.1, debian:6.12.94).
The highest match wins. Packages come from the mirror that this system uses, or deb.debian.org, and
are verified by the archive's signatures. Neither root nor a change to the system's apt is needed.

  --flavour NAME      cloud (default), rt or generic
]],
  list = [[
Usage: ktstr kernel list [--json]

Lists the cached kernels, the highest version first. The first is what a test gets that names none,
unless KTSTR_KERNEL does.

  --json              as a JSON array, with all that is known of each
]],
  path = [[
Usage: ktstr kernel path SPEC [bzimage|vmlinux|config|modules]

Prints the path of the image that would be booted, or of the bzImage, the decompressed vmlinux, the
configuration or the directory of modules. SPEC is whatever a test's kernel= takes: a version or its
beginning, debian:VERSION, or the path of a bzImage, a vmlinux or a kernel build tree.
]],
  rm = [[
Usage: ktstr kernel rm SPEC...

Removes kernels from the cache: every one that SPEC, a version or its beginning by component, names.
]],
}

local FLAVOURS = { cloud = true, rt = true, generic = true }
local PARTS = { bzimage = true, vmlinux = true, config = true, modules = true }

local command = subcommands.new { name = "kernel", help = HELP, directory = cache.directory }

local function get(args)
  local words, options = command:parse("get", args, { ["--flavour"] = true })
  local flavour = options["--flavour"] or "cloud"
  if not FLAVOURS[flavour] then
    command:usage("get", ("unknown flavour '%s' (known: cloud, rt, generic)"):format(flavour))
  elseif #words == 0 then
    command:usage("get", "no kernel named")
  end
  local wanted = {}
  for i, word in ipairs(words) do
    wanted[i] = word:match "^debian:(.+)$"
    if version.is_version(word) then
      errors.refuse("invalid", ("'%s' does not say where to get it from"):format(word),
        ("try 'ktstr kernel get debian:%s'"):format(word))
    elseif not wanted[i] or not version.is_version(wanted[i]) then
      errors.refuse("invalid", ("'%s' is not a kernel to fetch"):format(word),
        "say it as debian:VERSION, as in debian:7.3")
    end
  end
  local debian = require "ktstr.kernels.debian"
  local progress = require("ktstr.kernels.progress").new()
  for _, name in ipairs(wanted) do
    local ok, kernel, fetched = pcall(debian.get, name, flavour, progress)
    progress:done()
    if not ok then
      error(kernel, 0)
    end
    io.stdout:write(("%s %s\n"):format(kernel.release, fetched and "is ready" or "was cached already"))
  end
  return 0
end

local function list_json(list)
  local rows = {}
  for i, kernel in ipairs(list) do
    rows[i] = {
      release = kernel.release,
      version = kernel.version,
      source = kernel.source,
      path = kernel.path,
      bzimage = kernel.bzimage,
      vmlinux = kernel.vmlinux,
      config = kernel.config,
      modules = kernel.modules,
      package_version = kernel.meta.package_version,
      packages = kernel.meta.packages,
      sha256 = kernel.meta.sha256,
    }
  end
  io.stdout:write(json.encode(setmetatable(rows, { __jsontype = "array" }), { indent = true }), "\n")
  return 0
end

local function list(args)
  local words, options = command:parse("list", args, { ["--json"] = false })
  if #words > 0 then
    command:usage("list", ("unexpected argument '%s'"):format(words[1]))
  end
  local found = kernels.list()
  if options["--json"] then
    return list_json(found)
  end
  if #found == 0 then
    io.stderr:write("No kernel is cached; try 'ktstr kernel get debian:7.3'.\n")
    return 0
  end
  local row = "%-34s %-14s %-18s %s\n"
  io.stdout:write(row:format("RELEASE", "VERSION", "SOURCE", "SIZE"))
  for _, kernel in ipairs(found) do
    local size = ("%.0f MiB"):format(files.size(kernel.directory) / 2 ^ 20)
    io.stdout:write(row:format(kernel.release, kernel.version, kernel.source or "", size))
  end
  return 0
end

local function path(args)
  local words = command:parse("path", args, {})
  local spec, part = words[1], words[2]
  if not spec or #words > 2 then
    command:usage("path", spec and "too many arguments" or "no kernel named")
  elseif part and not PARTS[part] then
    command:usage("path", ("unknown part '%s' (known: bzimage, vmlinux, config, modules)"):format(part))
  end
  local kernel = kernels.resolve(spec)
  local found = kernel[part or "path"]
  if not found then
    errors.refuse("not-found", ("kernel '%s' has no %s"):format(spec, part))
  end
  io.stdout:write(found, "\n")
  return 0
end

local function remove(args)
  local words = command:parse("rm", args, {})
  if #words == 0 then
    command:usage("rm", "no kernel named")
  end
  for _, word in ipairs(words) do
    local found = kernels.find(word)
    if #found == 0 then
      kernels.raise_not_cached(word)
    end
    for _, kernel in ipairs(found) do
      cache.remove(kernel)
      io.stdout:write(("%s removed\n"):format(kernel.release))
    end
  end
  return 0
end

command.run = { get = get, list = list, path = path, rm = remove }

return command
