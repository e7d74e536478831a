-- Debian's archive through apt, with every directory of apt's own below ktstr's cache: the system's
-- sources, lists and package state are neither used nor touched, and no root is needed. What the
-- administrator set for downloads (proxies, authentication) applies; hooks do not.
--
-- A `group` is a set of suites with one directory:
--   <directory>/apt.conf  sources.list  status  lists/  cache/  stamp

local errors = require "ktstr.errors"
local files = require "ktstr.files"
local host = require "ktstr.host"
local process = require "ktstr.process"

local apt = {}

local STALL_S = 120
local LISTS_SPACE = 128 * 2 ^ 20 -- package lists of a group, and apt's index of them

local KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

-- Options of the system's Acquire section that would change what is asked for or believed.
local REFUSED = { "^Acquire::IndexTargets", "^Acquire::Languages", "^Acquire::Allow", "^Acquire::Changelogs" }

local CONFIG = [[
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::sourcelist "%(dir)/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "%(dir)";
Dir::State::lists "%(dir)/lists";
Dir::State::status "%(dir)/status";
Dir::Cache "%(dir)/cache";
Dir::Cache::archives "%(dir)/cache/archives";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::GzipIndexes "true";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
APT::Get::List-Cleanup "true";
APT::Architecture "%(arch)";
APT::Architectures { "%(arch)"; };
APT::Sandbox::User "root";
]]

--- Checks that what is needed to ask Debian's archive is installed.
function apt.check()
  for _, program in ipairs { "apt-get", "apt-cache", "apt-config", "dpkg-deb" } do
    if not process.find(program) then
      errors.raise("not-found",
        ("'%s' is not installed, and Debian's kernels are fetched with it"):format(program),
        "install apt and dpkg, or give the path of a bzImage, a vmlinux or a kernel build tree")
    end
  end
  if not files.is_file(KEYRING) then
    errors.raise("not-found", "Debian's archive keys are not installed: " .. KEYRING .. " is missing",
      "install the package debian-archive-keyring")
  end
end

-- The system's settings for downloads, in apt.conf's syntax.
local function system_settings()
  local kept = {}
  local result = process.run { "apt-config", "dump" }
  for line in result.stdout:gmatch "[^\n]+" do
    local keep = line:match "^Acquire::"
    for _, pattern in ipairs(REFUSED) do
      keep = keep and not line:match(pattern)
    end
    if keep then
      kept[#kept + 1] = line
    end
  end
  return table.concat(kept, "\n") .. "\n"
end

local function source_list(suites, mirror, arch)
  local lines = {}
  for _, suite in ipairs(suites) do
    local uri = suite:match "%-security$" and mirror.security or mirror.archive
    lines[#lines + 1] = ("deb [arch=%s signed-by=%s] %s %s main"):format(arch, KEYRING, uri, suite)
  end
  return table.concat(lines, "\n") .. "\n"
end

---@class ktstr.kernels.apt.group
---@field directory string
---@field suites string[]

--- A set of suites at one mirror, with its private directory laid out.
---@param directory string
---@param suites string[]
---@param mirror { archive: string, security: string }
---@param arch string Debian's name of the architecture
---@return ktstr.kernels.apt.group
function apt.open(directory, suites, mirror, arch)
  files.make_directory(directory .. "/lists/partial")
  files.make_directory(directory .. "/cache/archives/partial")
  local list = source_list(suites, mirror, arch)
  if files.read(directory .. "/sources.list") ~= list then
    files.remove(directory .. "/stamp")
    files.write(directory .. "/sources.list", list)
  end
  files.write(directory .. "/status", "")
  local values = { dir = directory, arch = arch }
  local config = CONFIG:gsub("%%%((%w+)%)", values)
  files.write(directory .. "/apt.conf", system_settings() .. config)
  return { directory = directory, suites = suites, mirror = mirror }
end

local function environment(group)
  return { APT_CONFIG = group.directory .. "/apt.conf", LC_ALL = "C" }
end

-- apt's own words about what went wrong, the errors before the warnings, without repetition.
local function complaints(text)
  local found, seen = {}, {}
  for _, kind in ipairs { "E", "W" } do
    for line in text:gmatch "[^\n]+" do
      local message = line:match("^" .. kind .. ": (.*)$")
      if message and not seen[message] then
        seen[message] = true
        found[#found + 1] = message
      end
    end
  end
  return found
end

local function raise_complaint(what, result)
  local found = complaints(result.stderr)
  local first = found[1] or process.describe(result)
  if result.stderr:find("No space left on device", 1, true) then
    errors.raise("no-space", ("%s: no space left (%s)"):format(what, first),
      files.MORE_SPACE)
  end
  errors.raise("network", ("%s: %s"):format(what, first),
    "check the network, and http_proxy if there is a proxy")
end

-- apt says "dlstatus:2:38.2561:Retrieving file 2 of 4" twice a second on the status descriptor, here
-- standard output, also when nothing moves any more (on a full disk it waits for ever).
local function follow(group, on_percent)
  local last, since
  return function(line)
    local percent = tonumber(line:match "^dlstatus:%d+:([%d.]+):")
    if percent and percent ~= last then
      last, since = percent, host.now()
      on_percent(percent)
    elseif percent and host.now() - since > STALL_S then
      files.check_space(group.directory, 2 ^ 20)
      errors.raise("network", ("the download stands still: nothing came for %d s"):format(STALL_S),
        "check the network, and try again")
    end
  end
end

--- Fetches the suites' package lists and checks their signatures. Raises "network" or "no-space".
---@param group ktstr.kernels.apt.group
---@param on_percent fun(percent: number)
function apt.update(group, on_percent)
  files.remove(group.directory .. "/stamp")
  local argv = { "apt-get", "update", "-o", "APT::Status-Fd=1", "-o", "APT::Update::Error-Mode=any" }
  files.check_space(group.directory, LISTS_SPACE)
  local result = process.run(argv, { env = environment(group), on_stdout = follow(group, on_percent) })
  if result.status ~= 0 then
    raise_complaint("cannot fetch Debian's package lists from " .. group.mirror.archive, result)
  end
  files.write(group.directory .. "/stamp", os.time() .. "\n")
end

--- Seconds since the last complete update; huge when there was none.
---@param group ktstr.kernels.apt.group
---@return number
function apt.age(group)
  local stamp = tonumber(files.read(group.directory .. "/stamp") or "")
  local age = stamp and os.time() - stamp
  return age and age >= 0 and age or math.huge
end

local function query(group, arguments)
  local argv = { "apt-cache" }
  for _, argument in ipairs(arguments) do
    argv[#argv + 1] = argument
  end
  return process.run(argv, { env = environment(group) }).stdout
end

--- The names of all packages that begin with a prefix.
---@param group ktstr.kernels.apt.group
---@param prefix string
---@return string[]
function apt.names(group, prefix)
  local names = {}
  for name in query(group, { "pkgnames", prefix }):gmatch "%S+" do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- Records of `apt-cache show`: fields by name, one record a version.
---@param text string
---@return table<string, string>[]
function apt.parse_records(text)
  local records, record = {}, {}
  for line in (text .. "\n\n"):gmatch "([^\n]*)\n" do
    local name, value = line:match "^([%w%-]+): (.*)$"
    if name then
      record[name] = value
    elseif line == "" and record.Package then
      records[#records + 1] = record
      record = {}
    end
  end
  return records
end

---@param group ktstr.kernels.apt.group
---@param names string[]
---@return table<string, string>[]
function apt.records(group, names)
  if #names == 0 then
    return {}
  end
  local arguments = { "show", "--" }
  for _, name in ipairs(names) do
    arguments[#arguments + 1] = name
  end
  return apt.parse_records(query(group, arguments))
end

--- Downloads packages, verified by the archive's signatures, into a directory. Raises as update does.
---@param group ktstr.kernels.apt.group
---@param records table<string, string>[]
---@param directory string
---@param on_percent fun(percent: number)
---@return string[] paths in the order of records
function apt.download(group, records, directory, on_percent)
  local argv = { "apt-get", "download", "-o", "APT::Status-Fd=1" }
  for _, record in ipairs(records) do
    argv[#argv + 1] = record.Package .. "=" .. record.Version
  end
  local result = process.run(argv,
    { cwd = directory, env = environment(group), on_stdout = follow(group, on_percent) })
  if result.status ~= 0 then
    raise_complaint("cannot download " .. records[1].Package, result)
  end
  local paths = {}
  for i, record in ipairs(records) do
    -- A colon, as in an epoch, is written %3a in the file's name.
    local escaped = record.Version:gsub(":", "%%3a")
    paths[i] = ("%s/%s_%s_%s.deb"):format(directory, record.Package, escaped, record.Architecture)
  end
  return paths
end

return apt
