-- What has to be the same for a saved machine to be the one that a boot would give: a text of lines "name
-- value". Its hash is the saved machine's name in the cache.
local core = require "ktstr.core"
local hashes = require "ktstr.warm.hashes"
local size = require "ktstr.size"

local identity = {}

---@class ktstr.warm.Part a file, directory, link or device that ktstr itself puts into the initramfs
---@field path string where it is in the guest
---@field mode integer|nil permission bits; nil: those of the host's file
---@field host string|nil its contents: a file of the host
---@field content string|nil its contents, or a link's target, or a device's numbers
---@field kind string|nil "file", "dir", "symlink" ...; nil: a file

---@class ktstr.warm.Request what a boot is asked for
---@field kernel string path of the image
---@field kernel_release string|nil
---@field cmdline string
---@field agent string path of the agent on the host
---@field initramfs ktstr.warm.Part[]
---@field modules ktstr.Module[] in the order in which they are loaded
---@field topology ktstr.Topology
---@field memory number bytes
---@field la57 boolean
---@field steal_time boolean
---@field invariant_tsc boolean|nil
---@field kaslr boolean
---@field host_cpu string vendor, family, model, stepping, and a hash of what the guest is shown

-- One line, whatever is in it.
local function one_line(value)
  return (tostring(value):gsub("[\\\n]", { ["\\"] = "\\\\", ["\n"] = "\\n" }))
end

local function of_part(part)
  local content = part.host and hashes.of(part.host) or core.hash(part.content or "")
  local mode = part.mode or part.host and require("ktstr.host").mode(part.host)
  return ("%s %s %o %s"):format(one_line(part.path), part.kind or "file", mode or 0, content)
end

local function of_initramfs(parts)
  local lines = {}
  for i, part in ipairs(parts) do
    lines[i] = of_part(part)
  end
  table.sort(lines)
  return core.hash(table.concat(lines, "\n"))
end

local function of_modules(modules)
  local words = {}
  for i, module in ipairs(modules) do
    words[i] = ("%s:%s"):format(module.name, core.hash(module.data))
  end
  return #words > 0 and table.concat(words, " ") or "none"
end

local function of_nodes(nodes)
  local words = {}
  for i, node in ipairs(nodes) do
    words[i] = ("%d:%d"):format(node.llcs, node.memory)
  end
  return table.concat(words, " ")
end

local function of_distances(rows)
  local words = {}
  for i, row in ipairs(rows) do
    words[i] = table.concat(row, ",")
  end
  return table.concat(words, " ")
end

local function yes_no(value)
  return value and "yes" or "no"
end

--- The version and the build of this program, which hold for whatever else it puts into a machine.
---@return string
function identity.program()
  return ("%s %s"):format(core.version, core.build_id())
end

--- The canonical text of a boot. Raises "not-found", "os" for files that cannot be read.
---@param request ktstr.warm.Request
---@return string
function identity.text(request)
  local machine = request.topology:for_machine(request.memory)
  local tsc = request.invariant_tsc
  local values = {
    { "ktstr", identity.program() },
    { "kernel", hashes.of(request.kernel) },
    { "kernel-release", request.kernel_release ~= "" and request.kernel_release or "unknown" },
    { "cmdline", request.cmdline },
    { "agent", hashes.of(request.agent) },
    { "initramfs", of_initramfs(request.initramfs) },
    { "modules", of_modules(request.modules) },
    { "topology", tostring(request.topology) },
    { "nodes", of_nodes(machine.nodes) },
    { "distances", of_distances(machine.distances) },
    { "memory", ("%d"):format(request.memory) },
    { "la57", yes_no(request.la57) },
    { "steal-time", yes_no(request.steal_time) },
    { "invariant-tsc", tsc == nil and "host" or yes_no(tsc) },
    { "kaslr", yes_no(request.kaslr) },
    { "host-cpu", request.host_cpu },
  }
  for i, pair in ipairs(values) do
    values[i] = ("%s %s\n"):format(pair[1], one_line(pair[2]))
  end
  return table.concat(values)
end

--- What this program, on this host, would say of a machine that was saved from somewhere: for a comparison
--- with what it says itself.
---@param saved string
---@param host_cpu string
---@return string
function identity.here(saved, host_cpu)
  local ours = {
    ktstr = identity.program(),
    agent = hashes.of(require("ktstr.initramfs").agent()),
    ["host-cpu"] = host_cpu,
  }
  return (saved:gsub("([^ \n]+) ([^\n]*)\n", function(name, value)
    return ("%s %s\n"):format(name, ours[name] or value)
  end))
end

--- The name in the cache of a machine with that identity: 32 hex digits.
---@param text string
---@return string
function identity.name(text)
  return core.hash(text)
end

--- Names to values, and the names in their order.
---@param text string
---@return table<string, string> values, string[] names
function identity.parse(text)
  local values, names = {}, {}
  for name, value in text:gmatch "([^ \n]+) ([^\n]*)\n" do
    if not values[name] then
      names[#names + 1] = name
    end
    values[name] = value
  end
  return values, names
end

local function as_size(value)
  local bytes = tonumber(value)
  return bytes and size.format(bytes) or value
end

local function as_quoted(value)
  return ("'%s'"):format(value)
end

local function as_nodes(value)
  return (value:gsub("(%d+):(%d+)", function(llcs, bytes)
    return ("%s %s with %s"):format(llcs, llcs == "1" and "LLC" or "LLCs", as_size(bytes))
  end):gsub(" (%d+ LLC)", ", %1"))
end

local function as_names(value)
  return (value:gsub(":%x+", ""))
end

-- How a line is called and shown; show = false: nobody can read it.
local LINES = {
  ktstr = { "ktstr" },
  kernel = { "the kernel image", show = false },
  ["kernel-release"] = { "the kernel" },
  cmdline = { "the command line", show = as_quoted },
  agent = { "the agent", show = false },
  initramfs = { "the initramfs", show = false },
  modules = { "the list of modules", show = as_names },
  nodes = { "the nodes", show = as_nodes, plural = true },
  distances = { "the distances", plural = true },
  memory = { "memory", show = as_size },
  ["host-cpu"] = { "the host's CPU" },
}

local function describe(name, ours, saved)
  local line = LINES[name] or { name }
  local verb = line.plural and "are" or "is"
  if not ours or not saved then
    return ("%s %s said by only one of them"):format(line[1], verb)
  end
  local show = line.show
  if show ~= false then
    local a, b = show and show(ours) or ours, show and show(saved) or saved
    if a ~= b then
      return ("%s %s %s, the saved machine has %s"):format(line[1], verb, a, b)
    end
  end
  return ("%s %s not the saved machine's"):format(line[1], verb)
end

--- Names each difference, for people: "topology is 1n1l4c1t, the saved machine has 1n1l2c1t; memory is
--- ...". nil when there is none.
---@param ours string what is asked for
---@param saved string what the saved machine is
---@return string|nil
function identity.difference(ours, saved)
  if ours == saved then
    return nil
  end
  local a, names = identity.parse(ours)
  local b, more = identity.parse(saved)
  for _, name in ipairs(more) do
    if not a[name] then
      names[#names + 1] = name
    end
  end
  local found = {}
  for _, name in ipairs(names) do
    if a[name] ~= b[name] then
      found[#found + 1] = describe(name, a[name], b[name])
    end
  end
  return #found > 0 and table.concat(found, "; ") or "the order of its lines is another"
end

return identity
