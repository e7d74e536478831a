-- Debian's mirrors that this system already uses, read from its own list of package sources (both
-- formats), so that a site with a mirror or a proxy of its own keeps to it.

local files = require "ktstr.files"

local mirrors = {}

local DEFAULT = "http://deb.debian.org"
local RELEASES = {}
for name in ("bullseye bookworm trixie forky duke sid stable testing unstable oldstable"):gmatch "%S+" do
  RELEASES[name] = true
end

-- A suite without what may follow the release's name ("bookworm-security", "bookworm/updates").
local function release_of(suite)
  return suite:match "^%a+"
end

local function words(text)
  local list = {}
  for word in (text or ""):gmatch "%S+" do
    list[#list + 1] = word
  end
  return list
end

-- deb [arch=amd64 signed-by=/x.gpg] http://deb.debian.org/debian bookworm main contrib
local function parse_list(text, entries)
  for line in text:gmatch "[^\n]+" do
    local rest = line:gsub("#.*", ""):match "^%s*deb%s+(.*)$"
    if rest then
      local fields = words((rest:gsub("^%[.-%]%s*", "")))
      if fields[2] then
        entries[#entries + 1] = { uri = fields[1], suites = { fields[2] } }
      end
    end
  end
end

local function add_stanza(fields, entries)
  local enabled = (fields.enabled or "yes"):lower()
  if enabled == "no" or enabled == "false" or not (" " .. (fields.types or "") .. " "):find " deb " then
    return
  end
  for _, uri in ipairs(words(fields.uris)) do
    entries[#entries + 1] = { uri = uri, suites = words(fields.suites) }
  end
end

-- Stanzas of "Field: value", continued by lines that begin with a blank.
local function parse_deb822(text, entries)
  local fields, last = {}, nil
  for line in (text .. "\n\n"):gmatch "([^\n]*)\n" do
    local name, value = line:match "^([%w%-]+):%s*(.*)$"
    if name then
      last = name:lower()
      fields[last] = value
    elseif line:match "^%s*$" then
      add_stanza(fields, entries)
      fields, last = {}, nil
    elseif last and line:match "^%s" then
      fields[last] = fields[last] .. " " .. line
    end
  end
end

--- The sources of packages that a directory like /etc/apt names.
---@param directory string
---@return { uri: string, suites: string[] }[]
function mirrors.sources(directory)
  local entries = {}
  parse_list(files.read(directory .. "/sources.list") or "", entries)
  local parts = directory .. "/sources.list.d"
  for _, name in ipairs(files.list(parts)) do
    if name:match "%.list$" then
      parse_list(files.read(parts .. "/" .. name) or "", entries)
    elseif name:match "%.sources$" then
      parse_deb822(files.read(parts .. "/" .. name) or "", entries)
    end
  end
  return entries
end

local function is_debian(entry)
  for _, suite in ipairs(entry.suites) do
    if RELEASES[release_of(suite) or ""] then
      return true
    end
  end
  return false
end

--- Where to ask for Debian's packages, in order: { archive=, security= } as this system has them,
--- then Debian's own.
---@param directory string|nil default "/etc/apt"
---@return { archive: string, security: string }[]
function mirrors.find(directory)
  local archive, security
  for _, entry in ipairs(mirrors.sources(directory or "/etc/apt")) do
    local uri = entry.uri:gsub("/+$", "")
    if uri:match "^https?://" and is_debian(entry) then
      if uri:match "/debian$" then
        archive = archive or uri
      elseif uri:match "/debian%-security$" then
        security = security or uri
      end
    end
  end
  local own = { archive = DEFAULT .. "/debian", security = DEFAULT .. "/debian-security" }
  local found = { archive = archive or own.archive, security = security or own.security }
  if found.archive == own.archive and found.security == own.security then
    return { own }
  end
  return { found, own }
end

return mirrors
