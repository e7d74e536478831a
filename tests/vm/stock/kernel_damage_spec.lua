-- A kernel's memory that is damaged while it stands still: walks end with an error.
local kernel_guest = require "tests.vm.kernel_guest"

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

after_each(function()
  guest:stop_programs()
end)

-- Freezes, has change() write into the kernel, calls f, and puts the words back whatever happened.
local function damaged(place, word, f)
  vm:frozen(function()
    local old = k:read(place, 8)
    k:write(place, word)
    local ok, e = pcall(f)
    k:write(place, old)
    if not ok then
      error(e, 0)
    end
  end)
end

local function raised(f)
  local ok, e = pcall(f)
  assert.is_false(ok)
  return e
end

describe("a damaged kernel", function()
  local function all_tasks()
    local count = 0
    for _ in k:tasks() do
      count = count + 1
    end
    return count
  end

  it("is walked no further than where a list runs in a circle", function()
    local place, to = vm:frozen(function()
      return k:task(2).tasks:member_("next"):address_(), k:read(k:task(1):member_("tasks.next"):address_(), 8)
    end)
    damaged(place, to, function()
      local e = raised(all_tasks)
      assert.equals("format", e.code)
      assert.matches("the list of tasks at 0x%x+: runs in a circle, at 0x%x+ after %d+ steps", e.message)
    end)
    assert.is_true(vm:frozen(all_tasks) > 40)
  end)

  it("is walked no further than a wild pointer", function()
    local codes = {
      ["\1\2\3\4\5\6\7\8"] = "unmapped",
      ["\255\255\255\255\255\127\255\255"] = "unmapped", -- not canonical
      ["\0\1\0\0\0\0\173\222"] = "unmapped", -- LIST_POISON1
      ["\0\0\0\0\0\0\0\0"] = "format",
    }
    for bytes, code in pairs(codes) do
      local place = vm:frozen(function()
        return k:task(2).tasks:member_("next"):address_()
      end)
      damaged(place, bytes, function()
        local e = raised(all_tasks)
        assert.equals(code, e.code)
        assert.matches("the list of tasks at 0x%x+: .* after %d+ steps", e.message)
      end)
    end
  end)

  it("has no tasks by pid in an IDR that leads to itself", function()
    local place, old = vm:frozen(function()
      local head = k:var("init_pid_ns", "struct pid_namespace"):member_("idr.idr_rt.xa_head"):address_()
      return head, k:u64(head)
    end)
    assert.equals(2ULL, old % 4) -- a node
    local node = k:object("struct xa_node", old - 2)
    local slots = node:member_("slots"):address_() + bit.rshift(2, node.shift) * 8
    damaged(slots, k:read(place, 8), function()
      assert.equals("format", raised(function() return k:task(2) end).code)
    end)
    assert.equals("kthreadd", k:task(2).comm)
  end)
end)
