-- Gets Debian's kernels: which packages make up the one asked for, and what is in them.
--
-- Until 6.18 one package linux-image-<release> holds everything; later ones depend on
-- linux-binary-<release> (the image), linux-modules-<release> and linux-base-<release> (its
-- configuration). All of one release are taken by following the dependencies among them. From 6.19
-- on files lie in usr/lib/modules/<release>, before that in boot and lib/modules/<release>.

local errors = require "ktstr.errors"
local files = require "ktstr.files"
local apt = require "ktstr.kernels.apt"
local cache = require "ktstr.kernels.cache"
local mirrors = require "ktstr.kernels.mirrors"
local process = require "ktstr.process"
local user_cache = require "ktstr.user_cache"
local version = require "ktstr.kernels.version"

local debian = {}

-- Asked in this order until one has what is wanted: the lists of the first group are under a
-- megabyte each and hold the current kernels of every series; those of the second have ten each.
local GROUPS = {
  {
    name = "updates",
    suites = { "bookworm-updates", "bookworm-security", "bookworm-backports", "trixie-security",
      "trixie-backports" },
  },
  { name = "releases", suites = { "bookworm", "trixie", "sid" } },
}

-- Seconds that package lists are good for: to find a kernel in, and to say that there is none.
local DAY, SOON = 86400, 600
local MIB = 2 ^ 20
local VMLINUX_SPACE = 120 * MIB -- a decompressed image, and room to put it together

local ARCHITECTURES = { x86_64 = "amd64" }

--- Debian's name for this machine's architecture. Raises "unsupported" for one without kernels here.
---@param machine string|nil as `uname -m` says it
---@return string
function debian.architecture(machine)
  machine = machine or require("posix.sys.utsname").uname().machine
  local arch = ARCHITECTURES[machine]
  if not arch then
    errors.raise("unsupported", ("kernels for '%s' cannot be fetched (only for: x86_64)"):format(machine))
  end
  return arch
end

-- The release string in a package's name, when it is an image of that flavour.
local function release_of(name, flavour, arch)
  local release = name:match "^linux%-image%-unsigned%-(.+)$" or name:match "^linux%-image%-(.+)$"
  if not release then
    return nil
  end
  local signed = release:gsub("%-unsigned$", "")
  local suffix = (flavour == "generic" and "" or "-" .. flavour) .. "-" .. arch
  if signed:sub(-#suffix) ~= suffix then
    return nil
  end
  local number = signed:sub(1, -#suffix - 1)
  -- What is left of another flavour ends in its name: "6.1.0-56-rt".
  if not number:match "^%d" or number:gsub("%-rc%d", ""):match "%-%a" then
    return nil
  end
  return signed
end

local function depends_on_another_image(record, release)
  for name in (record.Depends or ""):gmatch "linux%-image%-%d[%w.+~%-]*" do
    if name ~= "linux-image-" .. release and name ~= "linux-image-" .. release .. "-unsigned" then
      return true
    end
  end
  return false
end

local function is_better(a, b)
  local order = version.compare(a.record.Version, b.record.Version)
  if order ~= 0 then
    return order > 0
  end
  return a.signed and not b.signed
end

--- Kernels among records, the highest version first, one entry a release and version.
---@param records table<string, string>[] from apt.records
---@param flavour string "cloud", "rt" or "generic"
---@param arch string
---@return { release: string, version: string, signed: boolean, record: table<string, string> }[]
function debian.images(records, flavour, arch)
  local found, by_release = {}, {}
  for _, record in ipairs(records) do
    local release = release_of(record.Package, flavour, arch)
    if release and not depends_on_another_image(record, release) then
      local image = {
        release = release,
        version = version.upstream(record.Version),
        signed = not record.Package:find("unsigned", 1, true),
        record = record,
      }
      local known = by_release[release]
      if not known or is_better(image, known) then
        by_release[release] = image
      end
    end
  end
  for _, image in pairs(by_release) do
    found[#found + 1] = image
  end
  table.sort(found, function(a, b)
    local order = version.compare(a.record.Version, b.record.Version)
    return order > 0 or order == 0 and a.release > b.release
  end)
  return found
end

--- The highest image that `wanted` names; nil when there is none.
---@param images table[] from debian.images
---@param wanted string a version or release, or its beginning by component
function debian.select(images, wanted)
  for _, image in ipairs(images) do
    if version.matches(wanted, image.version) or version.matches(wanted, image.release)
      or image.record.Version == wanted then
      return image
    end
  end
  return nil
end

-- The image's package and those of the same release that it depends on, in whatever depth.
local function closure(group, image)
  local packages, seen, pending = {}, {}, { image.record }
  while #pending > 0 do
    local record = table.remove(pending)
    packages[#packages + 1] = record
    seen[record.Package] = true
    local names = {}
    for name in (record.Depends or ""):gmatch "linux%-%a+%-[%w.+~%-]+" do
      if name:sub(-#image.release - 1) == "-" .. image.release and not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
    for _, candidate in ipairs(apt.records(group, names)) do
      if candidate.Version == record.Version then
        pending[#pending + 1] = candidate
      end
    end
  end
  return packages
end

-- Brings the lists of a group up to date, from the first mirror that can serve them all.
local function refresh(group, arch, limit, progress)
  local failure
  for _, mirror in ipairs(mirrors.find()) do
    local opened = apt.open(user_cache.root() .. "/apt/" .. group.name, group.suites, mirror, arch)
    if apt.age(opened) <= limit then
      return opened
    end
    progress:step("Fetching package lists from " .. mirror.archive)
    local ok, err = pcall(apt.update, opened, function(percent)
      progress:percent(percent)
    end)
    progress:done()
    if ok then
      return opened
    elseif not errors.is(err, "network") then
      error(err, 0)
    end
    failure = failure or err
  end
  error(failure, 0)
end

local function search(group, request)
  local records = apt.records(group, apt.names(group, "linux-image-"))
  local images = debian.images(records, request.flavour, request.arch)
  return debian.select(images, request.wanted), images
end

-- The group that has what is wanted, and it; asks for newer lists before it says no.
local function locate(request, progress)
  local all = {}
  for _, suites in ipairs(GROUPS) do
    local group = refresh(suites, request.arch, DAY, progress)
    local image, images = search(group, request)
    if not image and apt.age(group) > SOON then
      group = refresh(suites, request.arch, SOON, progress)
      image, images = search(group, request)
    end
    if image then
      return group, image
    end
    for _, other in ipairs(images) do
      all[#all + 1] = other
    end
  end
  return nil, all
end

-- The highest version of each series ("6.12", "7.3"), for a message.
local function newest_of_series(images)
  local best = {}
  for _, image in ipairs(images) do
    local series = image.version:match "^%d+%.%d+" or image.version
    if not best[series] or version.compare(image.version, best[series]) > 0 then
      best[series] = image.version
    end
  end
  local list = {}
  for _, name in pairs(best) do
    list[#list + 1] = name
  end
  table.sort(list, function(a, b)
    return version.compare(a, b) < 0
  end)
  return #list > 0 and table.concat(list, ", ") or "none"
end

local function check_space(packages)
  local needed = VMLINUX_SPACE
  for _, record in ipairs(packages) do
    needed = needed + (tonumber(record.Size) or 0) + (tonumber(record["Installed-Size"]) or 0) * 1024
  end
  files.check_space(cache.directory(), needed)
end

local function must(argv, what)
  local result = process.run(argv, { env = { LC_ALL = "C" } })
  if result.status ~= 0 then
    local reason = result.stderr:match "[^\n]+" or process.describe(result)
    if result.stderr:find("No space left on device", 1, true) then
      errors.raise("no-space", what .. ": no space left", files.MORE_SPACE)
    end
    errors.raise("os", what .. ": " .. reason)
  end
  return result
end

local function first_of(paths)
  for _, path in ipairs(paths) do
    if files.exists(path) then
      return path
    end
  end
  return nil
end

-- Puts what was unpacked where the cache wants it. Modules stay compressed as they are.
local function lay_out(root, release, kernel)
  local below = "/lib/modules/" .. release
  local modules = first_of { root .. "/usr" .. below, root .. below } or root
  local image = first_of { modules .. "/vmlinuz", root .. "/boot/vmlinuz-" .. release }
  if not image then
    errors.raise("format", "the packages of " .. release .. " hold no kernel image")
  end
  files.make_directory(kernel)
  files.rename(image, kernel .. "/bzImage")
  local config = first_of { modules .. "/config", root .. "/boot/config-" .. release }
  if config then
    files.rename(config, kernel .. "/config")
  end
  if modules ~= root then
    for _, link in ipairs { "build", "source" } do
      files.remove(modules .. "/" .. link)
    end
    files.rename(modules, kernel .. "/modules")
  end
end

local function sha256(path)
  return must({ "sha256sum", "--", path }, "cannot read " .. path).stdout:match "^\\?(%x+)"
end

local function describe(image, packages, request, group, kernel)
  local listed = {}
  for i, record in ipairs(packages) do
    listed[i] = { name = record.Package, version = record.Version, sha256 = record.SHA256 }
  end
  return {
    source = "debian:" .. request.wanted,
    distribution = "debian",
    flavour = request.flavour,
    mirror = group.mirror.archive,
    release = image.release,
    version = image.version,
    package_version = image.record.Version,
    packages = listed,
    sha256 = { bzImage = sha256(kernel .. "/bzImage"), vmlinux = sha256(kernel .. "/vmlinux") },
  }
end

local function cached_as(image)
  for _, kernel in ipairs(cache.kernels()) do
    if kernel.release == image.release and kernel.meta.package_version == image.record.Version
      and kernel.vmlinux then
      return kernel
    end
  end
  return nil
end

local function fetch(request, progress, directory)
  local group, image = locate(request, progress)
  if not group then
    local series = newest_of_series(image)
    errors.raise("not-found",
      ("Debian has no %s kernel '%s' (has: %s)"):format(request.flavour, request.wanted, series),
      "name one of these, as in 'ktstr kernel get debian:6.12'")
  end
  local kernel = cached_as(image)
  if kernel then
    return kernel, false
  end
  local packages = closure(group, image)
  check_space(packages)
  local size = 0
  for _, record in ipairs(packages) do
    size = size + (tonumber(record.Size) or 0)
  end

  local debs, root, place = directory .. "/debs", directory .. "/root", directory .. "/kernel"
  files.make_directory(debs)
  progress:step(("Downloading Linux %s (%s, %.1f MB)"):format(image.version, image.release, size / 1e6))
  local paths = apt.download(group, packages, debs, function(percent)
    progress:percent(percent)
  end)
  progress:step "Unpacking"
  for _, path in ipairs(paths) do
    must({ "dpkg-deb", "-x", path, root }, "cannot unpack " .. path:match "[^/]+$")
    files.remove(path)
  end
  lay_out(root, image.release, place)
  progress:step "Decompressing the kernel"
  require("ktstr.core").kernel_extract(place .. "/bzImage", place .. "/vmlinux")
  process.check_interrupted()
  local meta = describe(image, packages, request, group, place)
  kernel = cache.install(place, image.release, meta)
  progress:done()
  return kernel, true
end

--- Gets a kernel into the cache, unless it is there.
--- Raises "not-found", "network", "no-space", "unsupported", "interrupted".
---@param wanted string a version or release, or its beginning by component
---@param flavour string "cloud", "rt" or "generic"
---@param progress table from ktstr.kernels.progress
---@return ktstr.kernels.kernel kernel
---@return boolean fetched
function debian.get(wanted, flavour, progress)
  apt.check()
  local request = { wanted = wanted, flavour = flavour, arch = debian.architecture() }
  local fetched
  local function waiting()
    progress:step "Waiting for another 'ktstr kernel get' to finish"
  end
  local kernel = cache.with_temporary(waiting, function(directory)
    local kernel
    kernel, fetched = fetch(request, progress, directory)
    return kernel
  end)
  return kernel, fetched
end

return debian
