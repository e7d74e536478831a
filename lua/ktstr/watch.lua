-- Watches: a function is called with a record of the machine when the guest writes to a place in its memory.
local bit = require "bit"
local ffi = require "ffi"
local capture = require "ktstr.capture"
local errors = require "ktstr.errors"
local freeze = require "ktstr.freeze"
local options = require "ktstr.options"

---@class ktstr.Watch
---@field name string what is watched, as it was given
---@field address ktstr.Address
---@field len integer bytes
---@field backend string "register" or "page"; of a call "register" or "int3"
local Watch = {}
Watch.__index = Watch

---@class ktstr.WatchFire
---@field watch ktstr.Watch
---@field number integer it is the how-manieth write of the watch's, from 1 on
---@field cpu integer that wrote
---@field rip ktstr.Address behind the instruction that wrote; of a string instruction in its midst: its own
---@field symbol string|nil where that is: "proc_dointvec+0x1c"
---@field kind string "write"; of vm:on_call() "call" and "return"
---@field old number|ffi.cdata*|nil the value before; a Lua number where that is exact, else 64 bits
---@field new number|ffi.cdata*|nil the value that was written
---@field value number|ffi.cdata*|nil of a return: what rax holds
---@field raced boolean another CPU wrote as well, at a debug register: either's values may be the other's
---@field elapsed_ms number since the machine's start, without the time that it was frozen
---@field task { pid: integer, comm: string }|nil that the CPU ran
---@field backtrace ktstr.Backtrace|nil
local Fire = {}

local watch = {}

local LENGTHS = { [1] = true, [2] = true, [4] = true, [8] = true }

-- As core/machine/watch.h numbers them.
local OPS = {
  ["=="] = 1, ["~="] = 2, ["<"] = 3, ["<="] = 4, [">"] = 5, [">="] = 6, changed = 7, ["&"] = 8,
}
local BACKENDS = { register = 1, page = 2 }
local KINDS = { [0] = "write", "call", "return" }

local RULES = {
  len = { "number", integer = true, min = 1 },
  when = { "table|string" },
  frozen = { "boolean" },
  backend = { "string", one_of = { "register", "page" } },
  signed = { "boolean" },
  rate = { "number", integer = true, min = 1, max = 1e9 },
}

local CALL_RULES = {
  returns = { "boolean" },
  frozen = { "boolean" },
  rate = RULES.rate,
}

-- In the order of core/lua/machine_watch.c.
local Words = ffi.typeof "uint64_t[12]"
local FireWords = ffi.typeof "uint64_t[11]"

-- --- what is watched ---

-- Of a variable, where the kernel tells or everybody knows its type.
local function variable_type(k, name)
  local ok, of = pcall(function()
    local set = k:_types()
    return set:variable(name) or require("ktstr.kernel.known").type_of(set, name)
  end)
  return ok and of or nil
end

local function of_object(object)
  return object:address_(), object:type_()
end

-- "name", or "name.member" of a variable whose type is known.
local function of_symbol(vm, name)
  local k = vm.k
  local variable, path = name:match "^([^%.]+)%.(.+)$"
  if variable then
    return of_object(k:var(variable):member_(path))
  end
  if require("ktstr.kernel.percpu").is_symbol(k, k:_symbol(name)) then
    errors.raise("per-cpu", ("'%s' is a per-CPU variable: each CPU has its own"):format(name),
      ("watch one's: vm:watch(k:per_cpu(\"%s\", 0):member_ ...)"):format(name))
  end
  return k:symbol(name), variable_type(k, name)
end

---@return ktstr.Address address
---@return ktstr.Type|nil type
local function place_of(vm, what)
  local address = require "ktstr.kernel.address"
  if type(what) == "string" then
    return of_symbol(vm, what)
  elseif require("ktstr.kernel.object").is(what) then
    return of_object(what)
  end
  return address.new(address.raw(what))
end

local function length_of(name, given, of)
  local len = given or (of and tonumber(of.size))
  if not len then
    errors.refuse("invalid", ("vm:watch '%s': nobody knows how long that is"):format(name),
      "say it: { len = 1, 2, 4 or 8 }")
  elseif not LENGTHS[len] then
    errors.refuse("invalid", ("vm:watch '%s': %s bytes cannot be watched, but 1, 2, 4 or 8 can"):format(name,
      tostring(len)), "watch a part: the address of a member, or { len = }")
  end
  return len
end

-- A number of any kind as the 64 bits that it is compared as.
local function word(name, value)
  if type(value) == "number" and value % 1 == 0 and value < 0 then
    return ffi.cast("uint64_t", ffi.cast("int64_t", value))
  elseif type(value) == "boolean" then
    return value and 1ULL or 0ULL
  end
  local ok, raw = pcall(require("ktstr.kernel.address").raw, value)
  if not ok then
    errors.refuse("invalid", ("vm:watch '%s': a value is compared with a whole number, not with %s"):format(
      name, tostring(value)))
  end
  return raw
end

-- With or without a sign: what is compared has no more bytes.
local function fits(raw, len)
  local shift = 64 - 8 * len
  local signed = bit.arshift(bit.lshift(ffi.cast("int64_t", raw), shift), shift)
  return bit.rshift(bit.lshift(raw, shift), shift) == raw or ffi.cast("uint64_t", signed) == raw
end

-- when: "changed", { "==", 3 }, { op = "==", value = 3 }.
local function condition_of(name, when, len)
  if when == nil then
    return 0, 0ULL
  elseif type(when) == "string" then
    when = { when }
  end
  local op, value = when.op or when[1], when.value
  if value == nil then
    value = when[2]
  end
  if not OPS[op] then
    errors.refuse("invalid", ("vm:watch '%s': there is no condition '%s'"):format(name, tostring(op)),
      "there are: ==, ~=, <, <=, >, >=, & (has one of the bits), changed")
  end
  if op == "changed" then
    return OPS[op], 0ULL
  end
  local raw = word(name, value)
  if not fits(raw, len) then
    errors.refuse("invalid", ("vm:watch '%s': %s does not fit into %d bytes, with which it is compared")
      :format(name, tostring(value), len))
  end
  return OPS[op], raw
end

-- --- a watch ---

-- An object is said without what it has: that is of one moment, and a struct's is long.
local function describe(what)
  if require("ktstr.kernel.object").is(what) then
    return ("%s at %s"):format(what:type_().name, tostring(what:address_()))
  end
  return tostring(what)
end

local function check_arguments(vm, call, what, given, fn, rules)
  if type(given) == "function" and fn == nil then
    given, fn = nil, given
  end
  if fn ~= nil and type(fn) ~= "function" then
    errors.refuse("invalid", ("%s wants a function to call, not a %s"):format(call, type(fn)))
  elseif what == nil then
    errors.refuse("invalid", ("%s wants to know what: a symbol's name, an address, an object"):format(call))
  end
  given = options.check(call, given or {}, rules)
  if given.frozen and not fn then
    errors.refuse("invalid", ("%s: with frozen = true there has to be a function to wait for"):format(call))
  end
  vm:_check_alive "asked to watch"
  return given, fn
end

local function hold_ns(vm, given)
  if not given.frozen then
    return 0
  end
  return math.min(vm.freeze_limit or math.huge, 1e9) * 1e9
end

-- Has the machine watch; self.id and .backend are known then.
local function begin(self, call, words)
  local vm = self.vm
  if self.fn then
    capture.prepare(vm)
  end
  local ok, id = pcall(freeze.asking, vm, "asked to watch", freeze.patiently, vm, function()
    return vm.machine:watch(ffi.string(words, ffi.sizeof(words)), self.name)
  end)
  if not ok then
    if errors.is(id) and not id.message:find(self.name, 1, true) then
      id.message = ("%s '%s': %s"):format(call, self.name, id.message)
    end
    error(id, 0)
  end
  self.id, self.backend = id, vm.machine:watch_counts(id).backend
  vm.watching = vm.watching or {}
  vm.watching[id] = self
  return self
end

--- As vm:watch() says.
---@param vm ktstr.VM
---@return ktstr.Watch
function watch.watch(vm, what, given, fn)
  given, fn = check_arguments(vm, "vm:watch", what, given, fn, RULES)
  local name = describe(what)
  local at, of = place_of(vm, what)
  local self = setmetatable({ name = name, address = at, vm = vm, fn = fn }, Watch)
  self.len = length_of(name, given.len, of)
  self.signed = given.signed
  if self.signed == nil then
    self.signed = of ~= nil and of.is_signed or false
  end
  local op, value = condition_of(name, given.when, self.len)
  return begin(self, "vm:watch", Words(at.value_, vm.k:phys(at), self.len, self.signed and 1 or 0,
    fn and 0 or 1, BACKENDS[given.backend] or 0, op, value, hold_ns(vm, given), given.rate or 0, 0, 0))
end

-- By nm's letter: an address is anything.
local function function_address(k, name)
  local symbol = k:_symbol(name, function(one)
    return one.kind:match "[tTwW]" ~= nil
  end)
  if not symbol.kind:match "[tTwW]" then
    errors.refuse("invalid", ("vm:on_call '%s': that is no function, but data (%s)"):format(name,
      symbol.kind), "vm:watch is for data")
  end
  return k:symbol(name)
end

--- As vm:on_call() says.
---@param vm ktstr.VM
---@return ktstr.Watch
function watch.on_call(vm, what, given, fn)
  given, fn = check_arguments(vm, "vm:on_call", what, given, fn, CALL_RULES)
  local address = require "ktstr.kernel.address"
  local name = describe(what)
  local at = type(what) == "string" and function_address(vm.k, what) or address.new(address.raw(what))
  local self = setmetatable({ name = name, address = at, vm = vm, fn = fn, len = 8, signed = false }, Watch)
  return begin(self, "vm:on_call", Words(at.value_, vm.k:phys(at), 8, 0, fn and 0 or 1,
    0, 0, 0, hold_ns(vm, given), given.rate or 0, 1, given.returns and 1 or 0))
end

-- The last ones that could be had: C forgets a watch with its machine, or when it is cancelled.
local function counts_of(self)
  if not self.cancelled and not self.vm.result then
    local ok, counts = pcall(self.vm.machine.watch_counts, self.vm.machine, self.id)
    if ok then
      self.counts = counts
    end
  end
  return self.counts or { hits = 0, dropped = 0, raced = 0 }
end

--- The machine is about to go: what its watches have counted is kept.
---@param vm ktstr.VM
function watch.remember(vm)
  for _, one in pairs(vm.watching) do
    counts_of(one)
  end
end

--- How many writes there were for which the condition held: also those that came too fast to be recorded.
---@return integer
function Watch:hits()
  return counts_of(self).hits
end

--- How many of the hits were counted, but not recorded.
---@return integer
function Watch:dropped()
  return counts_of(self).dropped
end

--- How many of those that were recorded raced with another CPU's. Always 0 with pages.
---@return integer
function Watch:raced()
  return counts_of(self).raced
end

--- Watches no longer: its function is not called any more. Harmless when repeated, and after the end. Raises
--- what functions raise that are called for what has been seen until now; it is cancelled all the same.
function Watch:cancel()
  if self.cancelled then
    return
  end
  local vm = self.vm
  local served, raised = true, nil
  if not vm.channel.ended and not vm.result then
    served, raised = pcall(vm._serve_watches, vm)
  end
  if self.cancelled then -- by a function that was called
    return
  end
  counts_of(self)
  self.cancelled = true
  vm.watching[self.id] = nil
  if not vm.channel.ended and not vm.result then
    local ok, e = pcall(freeze.patiently, vm, function()
      vm.machine:unwatch(self.id)
    end)
    if not ok and not errors.is(e, "ended") then
      error(e, 0)
    end
  end
  if not served then
    error(raised, 0)
  end
end

function Watch:__tostring()
  return ("watch of %s (%d bytes at %s, by %s): %d hits"):format(self.name, self.len, tostring(self.address),
    self.backend, self:hits())
end

-- --- fires ---

local function value_of(fired_watch, bits)
  local address = require "ktstr.kernel.address"
  local shift = 64 - 8 * fired_watch.len
  if fired_watch.signed then
    return address.signed(bit.arshift(bit.lshift(ffi.cast("int64_t", bits), shift), shift))
  end
  return address.unsigned(bits)
end

-- What the record, and the kernel, have to say of it: looked up when asked for.
local LATE = {
  symbol = function(self)
    if self.kind == "call" then
      return self._vm.k:name(self.rip)
    end
    -- The instruction itself: behind a function's last one there is another function.
    return self._vm.k:name(self.rip - 1)
  end,
  task = function(self)
    local task = self._snap.k:per_cpu("runqueues", self.cpu).curr
    return { pid = task.pid, comm = task.comm }
  end,
  backtrace = function(self)
    local calls = (self._vm:is_frozen() and self._vm.k or self._snap.k):backtrace(self.cpu)
    local task = self.task
    if task and not calls.pid then -- a record does not know by itself
      calls.pid, calls.comm = task.pid, task.comm
    end
    return calls
  end,
}

function Fire.__index(self, name)
  local late = LATE[name]
  if not late then
    return nil
  end
  local ok, value = pcall(late, self)
  if not ok and not errors.is(value) then
    error(value, 0)
  end
  value = ok and value or nil
  rawset(self, name, value)
  return value
end

function Fire:__tostring()
  local task = self.task
  local by = ("by CPU %d at %s%s"):format(self.cpu, self.symbol or tostring(self.rip),
    task and (" (%s, pid %d)"):format(task.comm, task.pid) or "")
  if self.kind == "call" then
    return ("%s: called %s"):format(self.watch.name, by)
  elseif self.kind == "return" then
    return ("%s: returned %s %s"):format(self.watch.name, tostring(self.value), by)
  end
  return ("%s: %s to %s %s%s"):format(self.watch.name, tostring(self.old), tostring(self.new), by,
    self.raced and ", raced" or "")
end

local function new_fire(vm, fired_watch, words, snap)
  local address = require "ktstr.kernel.address"
  local kind = KINDS[tonumber(words[10])]
  return setmetatable({
    watch = fired_watch,
    kind = kind,
    value = kind == "return" and address.unsigned(words[5]) or nil,
    cpu = tonumber(words[1]),
    number = tonumber(words[2]),
    rip = address.new(words[3]),
    old = kind == "write" and value_of(fired_watch, words[4]) or nil,
    new = kind == "write" and value_of(fired_watch, words[5]) or nil,
    raced = words[7] ~= 0,
    elapsed_ms = tonumber(words[9]) / 1e6,
    _vm = vm,
    _snap = snap,
  }, Fire)
end

local function find_capture(vm, tag)
  local list = capture.list(vm)
  for i = #list, 1, -1 do
    if list[i].tag == tag then
      return list[i]
    end
  end
end

-- What was fired before one freeze has one record: to each its own fire.
local function own_of(snap, fire)
  local own = {}
  for name, value in pairs(snap) do
    own[name] = value
  end
  own.record, own.fire = own, fire
  return setmetatable(own, getmetatable(snap)) -- from here on it does not change
end

-- A record has stacks, but not what it takes to walk them.
local function prepare_backtraces(vm)
  if not vm.has_backtraces then
    vm.has_backtraces = true
    pcall(require("ktstr.kernel.backtrace").prepare, vm.k)
  end
end

local function call(vm, raw)
  local words = FireWords()
  ffi.copy(words, raw.words, ffi.sizeof(words))
  local fired = vm.watching and vm.watching[tonumber(words[0])]
  local snap = fired and find_capture(vm, raw.tag)
  if snap then
    prepare_backtraces(vm)
    fired.fn(own_of(snap, new_fire(vm, fired, words, snap)))
  end
end

-- All are called, whatever one of them raises: the first error is what the caller gets.
local function call_all(vm, fires)
  local failed, first = false, nil
  for _, raw in ipairs(fires) do
    local ok, e = pcall(call, vm, raw)
    if not ok and not failed then
      failed, first = true, e
    end
  end
  if failed then
    error(first, 0)
  end
end

--- Calls the functions of what has been fired. Raises what they raise.
---@param vm ktstr.VM
function watch.serve(vm)
  local fires, is_frozen = vm.machine:take_fires()
  if is_frozen then
    vm.machine:frozen(true, call_all, vm, fires) -- and thaws
  elseif fires[1] then
    call_all(vm, fires)
  end
end

return watch
