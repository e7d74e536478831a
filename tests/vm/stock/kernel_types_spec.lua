-- The types of k.types are those that the guest itself shows. tests/lua/kernel_layouts_spec.lua has another
-- reader's opinion of what they say.
local files = require "ktstr.files"
local host = require "ktstr.host"
local kernel_guest = require "tests.vm.kernel_guest"
local kernels = require "ktstr.kernels"
local types = require "ktstr.kernel.types"

local NAMED = { "struct task_struct", "struct rq", "struct cfs_rq", "struct sched_entity",
  "struct mm_struct" }
local DRAWN = 100

local guest, vm, k

setup(function()
  guest = kernel_guest.boot { topology = "1n1l1c1t" }
  vm, k = guest.vm, guest.k
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

local function is_struct(set, id)
  local ok, type = pcall(set.type, set, id) -- others are no types
  return ok and (type.name:find "^struct [%w_]+$" or type.name:find "^union [%w_]+$") and type:has_members()
    and type
end

-- Names of structs, drawn anew in each run.
local function draw(set, count)
  local seed = math.floor(host.now() * 1000) % 2 ^ 31
  math.randomseed(seed)
  local names, last = {}, require("ffi").C.types_end(set.handle)
  while #names < count do
    local type = is_struct(set, math.random(last - 1))
    if type then
      names[#names + 1] = ("%s#%d"):format(type.name, type.id)
    end
  end
  return names, seed
end

local function same_members(told, seen, what)
  assert.equals(told.size, seen.size, what)
  local ours = seen:members()
  for i, member in ipairs(told:members()) do
    for _, field in ipairs { "name", "offset", "bits" } do
      assert.equals(member[field], ours[i][field], what)
    end
    assert.equals(member.type.name, ours[i].type.name, what)
    assert.equals(member.type.size, ours[i].type.size, what)
  end
  assert.equals(told.count, #ours, what)
end

describe("the types of a kernel", function()
  it("are the guest's own", function()
    local copy = os.tmpname()
    vm:get("/sys/kernel/btf/vmlinux", copy)
    local blob = files.read(copy)
    os.remove(copy)
    local kernel = kernels.resolve()
    assert.is_true(#blob > 2 ^ 20)
    if kernel.vmlinux then
      assert.is_true(files.read(kernel.vmlinux):find(blob, 1, true) ~= nil)
    end

    local told = types.from_blob(blob)
    for _, name in ipairs(NAMED) do
      same_members(told:get(name), k.types[name], name)
    end
    local names, seed = draw(told, DRAWN)
    for _, name in ipairs(names) do
      same_members(told:get(name), k.types[name], ("%s, of seed %d"):format(name, seed))
    end
  end)
end)
