-- CPU topologies: "NnNlNcNt", presets, tables; and where each CPU of one sits.
-- CPUs, LLCs and nodes are numbered as the kernel does, from 0: nodes hold LLCs, LLCs cores, cores threads.
local errors = require "ktstr.errors"
local nearest = require "ktstr.nearest"
local options = require "ktstr.options"
local size = require "ktstr.size"

local topology = {}

local MAX_CPUS, MAX_NODES, MAX_THREADS = 252, 64, 8
local MEMORY_UNIT = 2 * 2 ^ 20

---@type table<string, string>
topology.presets = {
  ["tiny-1llc"] = "1n1l4c1t",
  ["tiny-2llc"] = "1n2l2c1t",
  ["odd-3llc"] = "1n3l3c1t",
  ["odd-5llc"] = "1n5l3c1t",
  ["odd-7llc"] = "1n7l2c1t",
  ["smt-2llc"] = "1n2l2c2t",
  ["smt-3llc"] = "1n3l2c2t",
  ["medium-4llc"] = "1n4l4c2t",
  ["medium-8llc"] = "1n8l4c2t",
  ["large-4llc"] = "1n4l16c2t",
  ["large-8llc"] = "1n8l8c2t",
  ["near-max-llc"] = "1n15l8c2t",
  ["max-cpu"] = "1n14l9c2t",
  ["numa2-4llc"] = "2n4l4c1t",
  ["numa2-8llc"] = "2n8l8c2t",
  ["numa4-8llc"] = "4n8l4c1t",
  ["numa4-12llc"] = "4n12l8c2t",
  ["medium-4llc-nosmt"] = "1n4l8c1t",
  ["medium-8llc-nosmt"] = "1n8l8c1t",
  ["large-4llc-nosmt"] = "1n4l32c1t",
  ["large-8llc-nosmt"] = "1n8l16c1t",
  ["near-max-llc-nosmt"] = "1n15l16c1t",
  ["max-cpu-nosmt"] = "1n14l18c1t",
  ["numa2-8llc-nosmt"] = "2n8l16c1t",
}

---@class ktstr.Topology
---@field cpus integer
---@field llcs integer
---@field numa_nodes integer
---@field cores integer per LLC
---@field threads integer per core
---@field nodes { llcs: integer, memory: number|nil }[] memory in bytes where the table asked for it
---@field distances integer[][]
local Topology = {}
Topology.__index = Topology

local grammar = "write NnNlNcNt: NUMA nodes, LLCs in all, cores per LLC, threads per core, "
  .. "such as \"1n2l4c2t\""

local function refuse(text, problem, ...)
  errors.refuse("invalid", ("topology %s: %s"):format(text, problem:format(...)), grammar)
end

local function check_count(text, value, what, most)
  if type(value) ~= "number" or value % 1 ~= 0 or value < 1 or value > most then
    refuse(text, "%s must be 1 to %d, not %s", what, most, tostring(value))
  end
end

local function check_distances(text, distances, nodes)
  if #distances ~= nodes then
    refuse(text, "distances must have a row for each of the %d nodes, not %d", nodes, #distances)
  end
  for i, row in ipairs(distances) do
    if type(row) ~= "table" or #row ~= nodes then
      refuse(text, "row %d of distances must have %d numbers", i, nodes)
    end
    for j, d in ipairs(row) do
      if type(d) ~= "number" or d % 1 ~= 0 or d > 254 or (i == j and d ~= 10) or (i ~= j and d <= 10) then
        refuse(text, "the distance from node %d to %d is %s; it must be 10 to itself, 11 to 254 to others",
          i - 1, j - 1, tostring(d))
      elseif type(distances[j]) == "table" and distances[j][i] ~= d then
        refuse(text, "the distances between nodes %d and %d differ", i - 1, j - 1)
      end
    end
  end
end

local function default_distances(nodes)
  local rows = {}
  for i = 1, nodes do
    rows[i] = {}
    for j = 1, nodes do
      rows[i][j] = i == j and 10 or 20
    end
  end
  return rows
end

-- text is the topology as it was asked for; nodes, cores and threads may be anything.
local function create(text, nodes, cores, threads, distances)
  check_count(text, #nodes, "NUMA nodes", MAX_NODES)
  check_count(text, cores, "cores", MAX_CPUS)
  check_count(text, threads, "threads", MAX_THREADS)
  local llcs = 0
  for i, node in ipairs(nodes) do
    llcs = llcs + node.llcs
    if i > 1 and node.llcs > 0 and nodes[i - 1].llcs == 0 then
      refuse(text, "node %d has no LLC and node %d has: nodes with memory only come last, as the kernel "
        .. "numbers them", i - 2, i - 1)
    end
  end
  check_count(text, llcs, "LLCs", MAX_CPUS)
  local cpus = llcs * cores * threads
  if cpus > MAX_CPUS then
    refuse(text, "%d CPUs; at most %d are possible", cpus, MAX_CPUS)
  end
  if distances then
    check_distances(text, distances, #nodes)
  end
  return setmetatable({
    cpus = cpus,
    llcs = llcs,
    numa_nodes = #nodes,
    cores = cores,
    threads = threads,
    nodes = nodes,
    distances = distances or default_distances(#nodes),
  }, Topology)
end

local function even_nodes(text, numa_nodes, llcs)
  check_count(text, numa_nodes, "NUMA nodes", MAX_NODES)
  check_count(text, llcs, "LLCs", MAX_CPUS)
  if llcs % numa_nodes ~= 0 then
    refuse(text, "%d LLCs cannot be divided over %d NUMA nodes; they must be a multiple of the nodes",
      llcs, numa_nodes)
  end
  local nodes = {}
  for i = 1, numa_nodes do
    nodes[i] = { llcs = llcs / numa_nodes }
  end
  return nodes
end

local function from_string(text)
  local shown = options.show(text)
  local spelled = topology.presets[text] or text
  local n, l, c, t = spelled:match "^(%d+)n(%d+)l(%d+)c(%d+)t$"
  if not n then
    if text:match "^%a[%w]*%-" then
      errors.refuse("not-found", ("no topology preset is called %s"):format(shown),
        nearest.hint(text, topology.preset_names()))
    end
    refuse(shown, "it is not of the form NnNlNcNt, nor a preset's name")
  end
  return create(shown, even_nodes(shown, tonumber(n), tonumber(l)), tonumber(c), tonumber(t))
end

local table_rules = {
  nodes = { "list" },
  numa_nodes = { "number" },
  llcs = { "number" },
  cores = { "number", required = true },
  threads = { "number" },
  distances = { "list" },
}

local node_rules = {
  llcs = { "number", required = true, min = 0, integer = true },
  memory = { "string|number" },
}

local function from_table(given)
  local text = "{...}"
  options.check("topology", given, table_rules)
  local nodes = {}
  if given.nodes then
    if given.numa_nodes or given.llcs then
      refuse(text, "'nodes' already says what 'numa_nodes' and 'llcs' would")
    end
    for i, node in ipairs(given.nodes) do
      options.check(("topology.nodes[%d]"):format(i), node, node_rules)
      local memory = node.memory and size.parse(node.memory, ("memory of node %d"):format(i - 1))
      if memory and memory % MEMORY_UNIT ~= 0 then
        refuse(text, "memory of node %d must be a multiple of 2 MiB", i - 1)
      end
      nodes[i] = { llcs = node.llcs, memory = memory }
    end
  else
    nodes = even_nodes(text, given.numa_nodes or 1, given.llcs or 1)
  end
  return create(text, nodes, given.cores, given.threads or 1, given.distances)
end

--- A topology from "1n2l4c2t", a preset's name, or a table:
---   { numa_nodes = 2, llcs = 4, cores = 4, threads = 2 }
---   { nodes = { { llcs = 2, memory = "1G" }, { llcs = 0, memory = "512M" } }, cores = 4, threads = 2,
---     distances = { { 10, 20 }, { 20, 10 } } }       a node without LLCs has memory only
--- Raises "invalid" with the grammar, "not-found" for an unknown preset.
---@param value string|table|ktstr.Topology
---@return ktstr.Topology
function topology.parse(value)
  if getmetatable(value) == Topology then
    return value
  elseif type(value) == "string" then
    return from_string(value)
  elseif type(value) == "table" then
    return from_table(value)
  end
  return refuse(options.show(value), "it must be a string or a table")
end

---@return string[] sorted
function topology.preset_names()
  local names = {}
  for name in pairs(topology.presets) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

function Topology:__tostring()
  return ("%dn%dl%dc%dt"):format(self.numa_nodes, self.llcs, self.cores, self.threads)
end

local function range(first, count)
  local cpus = {}
  for i = 1, count do
    cpus[i] = first + i - 1
  end
  return cpus
end

--- The CPUs of LLC i, ascending. Raises "invalid" when there is none such.
---@param i integer from 0
---@return integer[]
function Topology:llc_cpus(i)
  if type(i) ~= "number" or i < 0 or i >= self.llcs or i % 1 ~= 0 then
    errors.refuse("invalid", ("there is no LLC %s; %s has LLCs 0 to %d"):format(tostring(i), tostring(self),
      self.llcs - 1))
  end
  local count = self.cores * self.threads
  return range(i * count, count)
end

--- The CPUs of NUMA node i, ascending; none for a node with memory only. Raises "invalid".
---@param i integer from 0
---@return integer[]
function Topology:node_cpus(i)
  if type(i) ~= "number" or i < 0 or i >= self.numa_nodes or i % 1 ~= 0 then
    errors.refuse("invalid", ("there is no NUMA node %s; %s has nodes 0 to %d"):format(tostring(i),
      tostring(self), self.numa_nodes - 1))
  end
  local llcs_before = 0
  for node = 1, i do
    llcs_before = llcs_before + self.nodes[node].llcs
  end
  local count = self.cores * self.threads
  return range(llcs_before * count, self.nodes[i + 1].llcs * count)
end

--- What core.machine wants: every node with its memory. `memory` (bytes) is divided over the nodes whose
--- own is not given, in units of 2 MiB. Raises "invalid" when nothing is left for one of them.
---@param memory number bytes in all
---@return table
function Topology:for_machine(memory)
  local rest, without = memory, 0
  for _, node in ipairs(self.nodes) do
    rest = rest - (node.memory or 0)
    without = without + (node.memory and 0 or 1)
  end
  local units = math.floor(rest / MEMORY_UNIT)
  if without > 0 and units < without then
    errors.refuse("invalid", ("memory %s is too little for %d NUMA nodes"):format(size.format(memory),
      self.numa_nodes), "give more memory")
  end
  local nodes, index = {}, 0
  for i, node in ipairs(self.nodes) do
    local bytes = node.memory
    if not bytes then
      bytes = (math.floor(units / without) + (index < units % without and 1 or 0)) * MEMORY_UNIT
      index = index + 1
    end
    nodes[i] = { llcs = node.llcs, memory = bytes }
  end
  return { nodes = nodes, cores = self.cores, threads = self.threads, distances = self.distances }
end

--- The sum of the memory that nodes ask for themselves; nil when one asks for none.
---@return number|nil
function Topology:own_memory()
  local total = 0
  for _, node in ipairs(self.nodes) do
    if not node.memory then
      return nil
    end
    total = total + node.memory
  end
  return total
end

return topology
