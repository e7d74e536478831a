-- Kernel modules of one kernel: finds them by name and what they depend on, as plain .ko files.
-- Packages ship no modules.dep (depmod writes it at installation): the names come from modules.order, the
-- dependencies from the modules themselves. Not every distribution's kernel decompresses modules, so the
-- host does.
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local nearest = require "ktstr.nearest"
local process = require "ktstr.process"

local modules = {}

local decompressors = {
  { suffix = "" },
  { suffix = ".xz", program = "xz", package = "xz-utils" },
  { suffix = ".zst", program = "zstd", package = "zstd" },
  { suffix = ".gz", program = "gzip", package = "gzip" },
}

-- The kernel takes '-' and '_' for the same character.
local function name_of(path)
  return (path:match "([^/]+)%.ko$" or path:match "([^/]+)%.o$" or path):gsub("-", "_")
end

local function read_index(path)
  local index = {}
  if host.is_readable(path) then
    for line in io.lines(path) do
      index[name_of(line)] = (line:gsub("%.o$", ".ko"))
    end
  end
  return index
end

local function read_module(name, base)
  for _, how in ipairs(decompressors) do
    local path = base .. how.suffix
    if host.is_readable(path) then
      if not how.program then
        return host.read_file(path)
      end
      if not process.find(how.program) then
        errors.raise("not-found", ("kernel module '%s' is compressed, and the program '%s' is not installed")
          :format(name, how.program), ("install %s"):format(how.package))
      end
      local result = process.run { how.program, "-dc", path }
      if result.status ~= 0 or result.stdout:sub(1, 4) ~= "\127ELF" then
        errors.raise("format", ("kernel module '%s': '%s -dc %s' gives no ELF file (%s)"):format(name,
          how.program, path, process.describe(result)), "get the kernel again: ktstr kernel get")
      end
      return result.stdout
    end
  end
  errors.raise("not-found", ("kernel module '%s' is listed, but its file %s is missing"):format(name, base),
    "get the kernel again: ktstr kernel get")
end

-- The "depends=a,b" entry of .modinfo; entries are NUL-terminated strings.
local function dependencies(data)
  local list = data:match "%zdepends=([^%z]*)%z" or ""
  local names = {}
  for name in list:gmatch "[^,]+" do
    names[#names + 1] = name_of(name)
  end
  return names
end

---@class ktstr.Module
---@field name string
---@field path string below the module directory: "kernel/net/foo.ko"
---@field data string the uncompressed module

--- The named modules and all that they depend on, in the order to load them in; those built into the
--- kernel are left out. Raises "not-found" naming the nearest.
---@param directory string|nil .../lib/modules/<release>, or nil when the kernel has none
---@param names string[]
---@return ktstr.Module[]
function modules.resolve(directory, names)
  if #names == 0 then
    return {}
  end
  if not directory then
    errors.raise("not-found", ("no module directory belongs to this kernel, so '%s' cannot be loaded")
      :format(names[1]), "boot a cached version ('ktstr kernel list') or a build tree")
  end
  local loadable = read_index(directory .. "/modules.order")
  local builtin = read_index(directory .. "/modules.builtin")
  local order, visited = {}, {}

  local function visit(name)
    if visited[name] or builtin[name] then
      return
    end
    visited[name] = true
    local path = loadable[name]
    if not path then
      local known = {}
      for other in pairs(loadable) do
        known[#known + 1] = other
      end
      local near = nearest.find(name, known)
      errors.raise("not-found", ("no kernel module '%s' in %s"):format(name, directory),
        near and ("did you mean '%s'?"):format(near) or ("it has %d modules"):format(#known))
    end
    local data = read_module(name, directory .. "/" .. path)
    for _, other in ipairs(dependencies(data)) do
      visit(other)
    end
    order[#order + 1] = { name = name, path = path, data = data }
  end

  for _, name in ipairs(names) do
    visit(name_of(name))
  end
  return order
end

-- The agent's channel needs these before it can be told anything; Debian's 6.1 has them as modules.
local channel_drivers = { "virtio_pci", "virtio_console" }

--- The drivers of the agent's channel that this kernel has as modules, in load order. What is neither a
--- module nor known to be built in is left out: the guest will say what it lacks.
---@param directory string|nil
---@return ktstr.Module[]
function modules.for_channel(directory)
  local names = {}
  local order = directory and directory .. "/modules.order"
  -- Thousands of lines, of which a boot wants to know two: searched as they are.
  local text = order and host.is_readable(order) and host.read_file(order) or ""
  for _, name in ipairs(channel_drivers) do
    if text:find("/" .. name .. ".", 1, true) or text:find("/" .. name:gsub("_", "-") .. ".", 1, true) then
      names[#names + 1] = name
    end
  end
  return modules.resolve(directory, names)
end

return modules
