-- Stopping a machine and looking at it: what vm:freeze(), vm:frozen() and their like do.
local capture = require "ktstr.capture"
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local registers = require "ktstr.registers"

local freeze = {}

-- Somebody else's freeze, a capture's, is over in milliseconds, but a guest that asks for captures all the
-- time may come first again and again, on a slow host for most of a second: so a script waits so long, and no
-- longer. Nothing is queued meanwhile.
local BUSY_PATIENCE_S = 5
local BUSY_PAUSE_S = 0.0002

-- As unpack() wants it: nils at the end count.
local function pack(...)
  return { n = select("#", ...), ... }
end

-- Calls f() until it does not raise "busy", the patience is over, or begun() says that the error is not the
-- freeze's own.
local function patiently(vm, f, begun)
  local deadline = host.now() + BUSY_PATIENCE_S
  while true do
    local results = pack(pcall(f))
    if results[1] then
      return unpack(results, 2, results.n)
    end
    if not errors.is(results[2], "busy") or (begun and begun()) or host.now() >= deadline then
      error(results[2], 0)
    end
    local before = host.now()
    if vm.channel:pump(BUSY_PAUSE_S) then -- what is done meanwhile is no waiting
      deadline = deadline + (host.now() - before)
    end
  end
end

-- What C raises for a machine that ends meanwhile does not know how it ended.
local function asking(vm, doing, f, ...)
  vm:_check_alive(doing)
  local results = pack(pcall(f, ...))
  if results[1] then
    return unpack(results, 2, results.n)
  end
  if errors.is(results[2], "ended") then
    error(vm:_ended_error(doing), 0)
  end
  error(results[2], 0)
end

freeze.patiently, freeze.asking = patiently, asking

---@param vm ktstr.VM
function freeze.freeze(vm)
  asking(vm, "asked to freeze", patiently, vm, function()
    vm.machine:freeze()
  end)
end

---@param vm ktstr.VM
function freeze.thaw(vm)
  asking(vm, "asked to thaw", vm.machine.thaw, vm.machine)
end

---@param vm ktstr.VM
---@param fn function
function freeze.frozen(vm, fn)
  if type(fn) ~= "function" then
    errors.refuse("invalid", ("vm:frozen wants a function, not a %s"):format(type(fn)))
  end
  vm:_check_alive "asked to freeze"
  -- A compiled loop could not be ended by the limit.
  pcall(jit.off, fn, true) -- a C function has nothing to compile
  local called = false
  -- One that takes nothing does not wait for what vm.k is made of.
  local k = debug.getinfo(fn, "u").nparams > 0 and vm.k or nil
  local function visit()
    called = true
    return fn(k)
  end
  return patiently(vm, function()
    return vm.machine:frozen(vm.freeze_limit, visit)
  end, function()
    return called
  end)
end

---@param vm ktstr.VM
---@param cpu integer
---@return ktstr.Registers
function freeze.regs(vm, cpu)
  if type(cpu) ~= "number" then
    errors.refuse("invalid", ("vm:regs wants a CPU's number, not %s"):format(tostring(cpu)))
  end
  return registers.decode(cpu, asking(vm, "asked for registers", vm.machine.regs, vm.machine, cpu))
end

---@param vm ktstr.VM
---@param cpu integer
---@param count integer
---@return integer executed
function freeze.step(vm, cpu, count)
  return asking(vm, "asked to step", vm.machine.step, vm.machine, cpu, count)
end

---@param vm ktstr.VM
---@param tag string
---@return ktstr.Capture
function freeze.capture(vm, tag)
  if type(tag) ~= "string" then
    errors.refuse("invalid", ("vm:capture wants a name, by which the capture is found, and not %s"):format(
      tag == nil and "nothing" or "a " .. type(tag)), "vm:capture \"before\"")
  end
  asking(vm, "asked for a capture", capture.prepare, vm, true)
  local ok, e = pcall(asking, vm, "asked for a capture", patiently, vm, function()
    vm.machine:capture(tag)
  end)
  if not ok then
    if errors.is(e, "frozen") and not e.hint then
      e.hint = "a capture has a freeze of its own: vm:thaw() first; vm.k shows what is frozen"
    end
    error(e, 0)
  end
  local list = capture.list(vm)
  for i = #list, 1, -1 do
    if list[i].tag == tag then
      return list[i]
    end
  end
end

---@param vm ktstr.VM
---@return boolean taken
function freeze.capture_early(vm)
  asking(vm, "asked for a capture", capture.prepare, vm, true)
  return asking(vm, "asked for a capture", patiently, vm, function()
    return vm.machine:capture_early()
  end)
end

return freeze
