local support = require "tests.lua.support"

local _, load = support.library()
local cpuset = load "ktstr.cpuset"
local raised = support.raised
local topology = load "ktstr.topology"

describe("a topology string", function()
  it("says how many of each there are", function()
    local t = topology.parse "2n4l3c2t"
    assert.same({ 24, 4, 2, 3, 2 }, { t.cpus, t.llcs, t.numa_nodes, t.cores, t.threads })
    assert.equals("2n4l3c2t", tostring(t))
  end)

  it("places CPUs as the kernel numbers them", function()
    local t = topology.parse "2n4l2c1t"
    assert.same({ 0, 1 }, t:llc_cpus(0))
    assert.same({ 6, 7 }, t:llc_cpus(3))
    assert.same({ 4, 5, 6, 7 }, t:node_cpus(1))
    assert.same({ { 10, 20 }, { 20, 10 } }, t.distances)
  end)

  it("is refused in one line that says the grammar", function()
    for text, reason in pairs {
      ["0n1l1c1t"] = "NUMA nodes must be 1 to 64, not 0",
      ["2n3l1c1t"] = "3 LLCs cannot be divided over 2 NUMA nodes",
      ["9z"] = "it is not of the form NnNlNcNt",
      ["1n11l23c1t"] = "253 CPUs; at most 252 are possible",
      ["1n1l1c9t"] = "threads must be 1 to 8, not 9",
      ["1n0l1c1t"] = "LLCs must be 1 to 252, not 0",
      ["1n1l0c1t"] = "cores must be 1 to 252, not 0",
      [""] = "it is not of the form",
      ["1n1l1c1t "] = "it is not of the form",
      ["1n1l1c99999999999999999999t"] = "threads must be",
    } do
      local e = raised(topology.parse, text)
      assert.is_true(e.cannot_run)
      local line = tostring(e)
      assert.is_nil(line:find "\n")
      assert.is_truthy(line:find("topology '" .. text .. "'", 1, true), line)
      assert.is_truthy(line:find(reason, 1, true), line)
      assert.is_truthy(line:find('such as "1n2l4c2t"', 1, true), line)
    end
  end)

  it("can be a preset's name", function()
    assert.equals("1n14l9c2t", tostring(topology.parse "max-cpu"))
    assert.equals("no topology preset is called 'smt-2lcl'; did you mean 'smt-2llc'?",
      tostring(raised(topology.parse, "smt-2lcl")))
  end)

  it("is possible for every preset", function()
    for name, text in pairs(topology.presets) do
      assert.equals(text, tostring(topology.parse(name)))
    end
    assert.equals(24, #topology.preset_names())
  end)
end)

describe("a topology table", function()
  it("may give counts only", function()
    local t = topology.parse { numa_nodes = 2, llcs = 2, cores = 4 }
    assert.equals("2n2l4c1t", tostring(t))
  end)

  it("may have nodes of different sizes, and nodes of memory only", function()
    local t = topology.parse {
      nodes = { { llcs = 2, memory = "1G" }, { llcs = 1, memory = "512M" }, { llcs = 0, memory = "512M" } },
      cores = 2,
      threads = 2,
      distances = { { 10, 20, 30 }, { 20, 10, 40 }, { 30, 40, 10 } },
    }
    assert.equals(12, t.cpus)
    assert.same({ 8, 9, 10, 11 }, t:node_cpus(1))
    assert.same({}, t:node_cpus(2))
    assert.equals(2 * 2 ^ 30, t:own_memory())
    local m = t:for_machine(2 * 2 ^ 30)
    assert.same({ llcs = 0, memory = 512 * 2 ^ 20 }, m.nodes[3])
    assert.same({ 20, 10, 40 }, m.distances[2])
  end)

  it("has its nodes of memory only last, as the kernel numbers them", function()
    local ok, e = pcall(topology.parse, { nodes = { { llcs = 0 }, { llcs = 1 } }, cores = 1 })
    assert.is_false(ok)
    assert.matches("node 0 has no LLC and node 1 has", e.message)
  end)

  it("is refused when it contradicts itself", function()
    local function distant(distances)
      return { cores = 1, numa_nodes = 2, llcs = 2, distances = distances }
    end
    for _, case in ipairs {
      { { cores = 1, numa_nodes = 2, llcs = 3 }, "3 LLCs cannot be divided" },
      { { cores = 1, nodes = { { llcs = 1 } }, llcs = 1 }, "already says" },
      { { cores = 1, nodes = {} }, "NUMA nodes must be 1 to 64, not 0" },
      { { cores = 1, nodes = { { llcs = 0 } } }, "LLCs must be 1 to 252, not 0" },
      { { cores = 1, nodes = { { llcs = 1, memory = "3M" } } }, "multiple of 2 MiB" },
      { distant { { 10, 20 } }, "a row for each of the 2 nodes" },
      { distant { { 10, 20 }, { 21, 10 } }, "0 and 1 differ" },
      { distant { { 11, 20 }, { 20, 10 } }, "node 0 to 0 is 11" },
      { distant { { 10, 9 }, { 9, 10 } }, "node 0 to 1 is 9" },
      { { llcs = 2 }, "option 'cores' is missing" },
      { { cores = 1, lcls = 2 }, "did you mean 'llcs'?" },
    } do
      local text = tostring(raised(topology.parse, case[1]))
      assert.is_truthy(text:find(case[2], 1, true), text)
    end
  end)

  it("divides memory over the nodes that ask for none, in units of 2 MiB", function()
    local t = topology.parse {
      nodes = { { llcs = 1 }, { llcs = 1, memory = "64M" }, { llcs = 1 } }, cores = 1,
    }
    local m = t:for_machine((64 + 6) * 2 ^ 20)
    assert.same({ 4, 64, 2 }, { m.nodes[1].memory / 2 ^ 20, m.nodes[2].memory / 2 ^ 20,
      m.nodes[3].memory / 2 ^ 20 })
    assert.matches("too little for 3 NUMA nodes", tostring(raised(t.for_machine, t, 66 * 2 ^ 20)))
  end)
end)

describe("a place that is not there", function()
  it("is refused with what there is", function()
    local t = topology.parse "1n2l2c1t"
    assert.equals("there is no LLC 2; 1n2l2c1t has LLCs 0 to 1", tostring(raised(t.llc_cpus, t, 2)))
    assert.equals("there is no NUMA node -1; 1n2l2c1t has nodes 0 to 0", tostring(raised(t.node_cpus, t, -1)))
  end)
end)

describe("a CPU list", function()
  it("is read and written in the kernel's format", function()
    assert.same({ 0, 1, 2, 3, 8 }, cpuset.parse "0-3,8")
    assert.same({ 1, 2 }, cpuset.parse "2,1,1-2")
    assert.equals("0-3,8", cpuset.format { 8, 3, 2, 1, 0 })
    assert.equals("0-1,4", cpuset.format { 0, 1, 4 })
    assert.equals("", cpuset.format {})
  end)

  it("is refused when it is none", function()
    for _, bad in ipairs { "", "x", "3-1", "1,,2", "-1", "0-99999" } do
      assert.matches("is not a list of CPUs; write single CPUs and ranges",
        tostring(raised(cpuset.parse, bad)))
    end
  end)

  it("comes from a place in a topology", function()
    local t = topology.parse "2n4l2c1t"
    assert.same({ 2, 3 }, cpuset.resolve(cpuset.llc(1), t))
    assert.same({ 4, 5, 6, 7 }, cpuset.resolve(cpuset.numa(1), t))
    assert.same({ 1, 2 }, cpuset.resolve(cpuset.range(1, 2), t))
    assert.same({ 0, 7 }, cpuset.resolve(cpuset.exact { 7, 0 }, t))
    assert.same({ 5 }, cpuset.resolve("5", t))
    assert.equals("the cpuset 6-8 names CPU 8, but 2n4l2c1t has CPUs 0 to 7",
      tostring(raised(cpuset.resolve, cpuset.range(6, 8), t)))
    assert.matches("no LLC 4", tostring(raised(cpuset.resolve, cpuset.llc(4), t)))
    assert.matches("empty", tostring(raised(cpuset.range, 3, 2)))
  end)
end)
