-- What an object is in memory, and how the bytes that it stands for are loaded and stored.
--
-- While a machine is frozen a scalar in the direct map or in the kernel's image is a plain load, which LuaJIT
-- compiles into the loop around it. While it runs each scalar is one call of C: LuaJIT knows no volatile, and
-- would take a load out of the loop that waits for it to change.
local ffi = require "ffi"
local address = require "ktstr.kernel.address"
local c = require "ktstr.kernel.c"
local errors = require "ktstr.errors"

ffi.cdef "size_t strnlen(const char *s, size_t max);"

local C = ffi.C
local cast = ffi.cast

local memory = {}

-- LuaJIT counts each tail call in a loop as if it had unrolled the loop, and gives the loop up after 15. A
-- step through a few members has more: a walk over all tasks would be interpreted, ten times as long.
jit.opt.start "loopunroll=60"

-- The one ctype of all objects of all machines. A kernel's own names come after these: none ends in '_'.
--   place_       the address
--   machine_     which machine's, see memory.join() and memory.slot()
--   handle_      which type, see kernel/types.lua
--   generation_  the freeze that it was made in; 0: none, it was made while the machine ran
--   origin_      where it was found, see memory.origin()
memory.Object = ffi.typeof(([[struct {
  uint64_t place_;
  uint32_t machine_;
  uint32_t handle_;
  uint32_t generation_;
  uint32_t origin_;
} /* %s */]]):format(address.unique()))
local Object = memory.Object
address.set_object(Object)

local Area = ffi.typeof "struct { uint64_t start, size; }"

-- By the number of a machine; what is not in use any more goes, since only the kernel (vm.k) holds on to it.
local kernels = setmetatable({}, { __mode = "v" })
local views = setmetatable({}, { __mode = "v" })
local areas = setmetatable({}, { __mode = "v" })
local slots = 0

--- Takes a kernel in; objects find it by the number that it gets, an even one, or by the next.
---@param k table gets _view (struct view *), _slot, _area (where per-CPU addresses lie), _static_area (where
---  those of the variables do)
---@param view ffi.cdata* struct view *, which lives as long as k
function memory.join(k, view)
  slots = slots + 2
  k._slot, k._view, k._area, k._static_area = slots, view, Area(0, 0), Area(0, 0)
  for slot = slots, slots + 1 do
    kernels[slot], views[slot] = k, view
  end
  areas[slots], areas[slots + 1] = k._area, k._static_area
end

--- The number for an object at an address that a script gives. From 7.x on the addresses of allocated per-CPU
--- memory are those of the image's first zeroed data, too. What was found by its symbol is that data, and has
--- the odd number: only per-CPU variables cannot be read there. What its pointers lead to has the even one.
---@param slot integer k._slot
---@param where any
---@return integer
function memory.slot(slot, where)
  if address.is(where) then
    return slot + address.named(where)
  elseif ffi.istype(Object, where) then
    return slot + bit.band(where.machine_, 1)
  end
  return slot
end

--- The number for what a pointer leads to that is in an object of that number.
---@param slot integer
---@return integer
function memory.pointed_slot(slot)
  if bit.band(slot, 1) ~= 0 then
    return slot - 1
  end
  return slot
end

--- The kernel that an object is of; nil when it has gone.
---@param object ffi.cdata*
---@return ktstr.Kernel|nil
function memory.kernel(object)
  return kernels[object.machine_]
end

-- --- where objects come from, for messages ---

local origins, origin_ids = { [0] = "" }, {}

--- A number for "struct rq.curr", or what else leads to an object.
---@param text string
---@return integer
function memory.origin(text)
  local id = origin_ids[text]
  if not id then
    id = #origins + 1
    origins[id], origin_ids[text] = text, id
  end
  return id
end

---@param id integer
---@return string
function memory.origin_text(id)
  return origins[id]
end

-- --- what cannot be read ---

--- Raises "ended", with how that came where the machine's handle is still there.
---@param slot integer
function memory.raise_ended(slot)
  local k = kernels[slot]
  local e = k and k._vm._ended_error and k._vm:_ended_error "asked for its memory"
    or errors.new("ended", "the machine has ended, and its memory with it")
  e.code = "ended" -- also when its time was up, which is no failure of who looks
  error(e, 0)
end
local raise_ended = memory.raise_ended

--- The generation that what is made now belongs to. Raises "ended".
---@param slot integer
---@return integer
function memory.generation(slot)
  local view = views[slot]
  if not view then
    return raise_ended(slot)
  end
  if view.frozen ~= 0 then
    return view.generation
  end
  return 0
end

-- What an object is called in messages.
local function name_of(self, d)
  local name = origins[self.origin_]
  if d and d.owner then
    name = d.name and d.owner.name .. "." .. d.name or d.owner.name
  end
  return name ~= "" and name or "memory"
end

local function raise_null(self, d)
  local chain = origins[self.origin_]
  local what = chain ~= "" and chain .. " is NULL" or "the address is NULL"
  if d and d.name then
    what = ("%s: it has no '%s'"):format(what, d.name)
  end
  errors.raise("null", what, "compare it with k.null before it is followed")
end

--- Raises "per-cpu" for an address that is one only together with a CPU.
---@param a ffi.cdata* uint64_t
---@param name string what was to be read
function memory.raise_percpu(a, name)
  errors.raise("per-cpu", ("%s at %s: that is a per-CPU address, and what lies there is no CPU's"):format(
    name, address.hex(a)), "k:per_cpu(pointer, cpu) gives one CPU's")
end

local function raise_stale(name)
  errors.raise("stale", name .. ": the object was made while the machine was frozen; it has run since",
    "find it again from a global, a per-CPU variable or an address")
end

-- Raises when an object is not to be looked through at all: in a function of its own, so that what calls it
-- stays small.
local function check(self, d, a)
  local view = views[self.machine_]
  if not view or view.memory == nil then
    raise_ended(self.machine_)
  end
  if self.generation_ ~= 0 and self.generation_ ~= view.generation then
    raise_stale(name_of(self, d))
  end
  if self.place_ == 0ULL then
    raise_null(self, d)
  end
  local area = areas[self.machine_]
  if a - area.start < area.size then
    memory.raise_percpu(a, name_of(self, d))
  end
  return view
end

--- What a script gives for an address in a machine's memory, as uint64_t. Raises "invalid" for what is none,
--- and for an object of another machine; "stale".
---@param slot integer
---@param value any
---@return ffi.cdata* uint64_t
function memory.place(slot, value)
  if ffi.istype(Object, value) then
    local view = views[slot]
    if memory.pointed_slot(value.machine_) ~= slot then
      errors.raise("invalid", name_of(value) .. ": the object is of another machine")
    elseif value.generation_ ~= 0 and view and value.generation_ ~= view.generation then
      raise_stale(name_of(value))
    end
    return value.place_
  end
  return address.raw(value)
end

-- Errors that end what is being done, whoever is in the way of them.
local ENDING = { interrupted = true, ["freeze-limit"] = true, stale = true, ended = true }

--- pcall(f, ...), but for errors that are not about what f does: an interruption, the end of a freeze.
---@return boolean, any
function memory.try(f, ...)
  local ok, result = pcall(f, ...)
  if not ok and (not errors.is(result) or ENDING[result.code]) then
    error(result, 0)
  end
  return ok, result
end

local SMALL = 0x1000000ULL

-- An error of C's about an access, with what was to be read in front.
local function fail(err, self, d, a)
  local ok, e = pcall(c.check, err)
  assert(not ok)
  if errors.is(e, "ended") then
    raise_ended(self.machine_)
  end
  if errors.is(e, "unmapped") or errors.is(e, "invalid") then
    e.message = ("%s: %s"):format(name_of(self, d), e.message)
    if errors.is(e, "unmapped") and a < SMALL then
      e.hint = e.hint or "if it is a per-CPU pointer: k:per_cpu(pointer, cpu)"
    end
  end
  error(e, 0)
end

-- --- loading ---

-- Where bytes lie that can be loaded plainly; nil: by a call.
local function find(self, a, n)
  local view = views[self.machine_]
  if not view or view.frozen == 0 then
    return nil
  end
  local generation = self.generation_
  if generation ~= 0 and generation ~= view.generation then
    return nil
  end
  local range = view.ranges[1]
  local at = a - range.start
  if at < range.size and range.size - at >= n then
    return range.hva + at
  end
  range = view.ranges[0]
  at = a - range.start
  if at < range.size and range.size - at >= n then
    local area = areas[self.machine_]
    if a - area.start < area.size then
      return nil
    end
    return range.hva + at
  end
  range = view.ranges[2]
  at = a - range.start
  if at < range.size and range.size - at >= n then
    return range.hva + at
  end
  return nil
end

local out = ffi.new [[union {
  uint64_t u64[1]; int64_t s64[1]; uint32_t u32[1]; int32_t s32[1]; uint16_t u16[1]; int16_t s16[1];
  uint8_t u8[1]; int8_t s8[1]; float f32[1]; double f64[1];
}]]

-- One scalar by a call; valid until the next.
local function call(self, d, a, n)
  local view = check(self, d, a)
  local err = C.view_read_scalar(view, a, n, out.u64)
  if err ~= nil then
    fail(err, self, d, a)
  end
  return out
end

--- Functions (object, descriptor, address): the scalar at that address. The object says which machine and
--- which freeze; the descriptor is for messages. Each is made of its own text, with its type and size in it:
--- closures of one function would share a compiled form that looks both up.
memory.load = {}

local TEMPLATE = [[
local find, call, cast, pointer, convert = ...
return function(self, d, a)
  local at = find(self, a, SIZE)
  if at then
    return CONVERT(cast(pointer, at)[0])
  end
  return CONVERT(call(self, d, a, SIZE).NAME[0])
end]]

local function define(name, ctype, size, convert)
  local text = TEMPLATE:gsub("%u%u%u%u+", { SIZE = size, NAME = name, CONVERT = convert and "convert" or "" })
  local make = assert(loadstring(text, "=load_" .. name))
  memory.load[name] = make(find, call, cast, ffi.typeof(ctype .. " *"), convert)
end

define("u8", "uint8_t", 1)
define("s8", "int8_t", 1)
define("u16", "uint16_t", 2)
define("s16", "int16_t", 2)
define("u32", "uint32_t", 4)
define("s32", "int32_t", 4)
define("f32", "float", 4)
define("f64", "double", 8)
define("u64", "uint64_t", 8, address.unsigned)
define("s64", "int64_t", 8, address.signed)

local u64_pointer = ffi.typeof "uint64_t *"
local char_pointer = ffi.typeof "const char *"

--- As uint64_t, whatever its size.
local function load_word(self, d, a)
  local at = find(self, a, 8)
  if at then
    return cast(u64_pointer, at)[0]
  end
  return call(self, d, a, 8).u64[0]
end
memory.load.word = load_word

local buffers = {}

-- Bytes of memory, valid until the next: plainly where they lie together, else copied.
local function bytes_at(self, d, a, n)
  local at = find(self, a, n)
  if at then
    return cast(char_pointer, at)
  end
  local view = check(self, d, a)
  local buffer = buffers[1]
  if not buffer or ffi.sizeof(buffer) < n then
    buffer = ffi.new("uint8_t[?]", n)
    buffers[1] = buffer
  end
  local err = C.view_read(view, 0, a, buffer, n)
  if err ~= nil then
    fail(err, self, d, a)
  end
  return cast(char_pointer, buffer)
end

--- So many bytes as a string.
---@return string
function memory.bytes(self, d, a, n)
  if n == 0 then
    return ""
  end
  return ffi.string(bytes_at(self, d, a, n), n)
end

--- The text of an array of so many chars: up to its NUL, or all of it.
---@return string
function memory.text(self, d, a, n)
  if n == 0 then
    return ""
  end
  local at = bytes_at(self, d, a, n)
  return ffi.string(at, C.strnlen(at, n))
end

local length = ffi.new "size_t[1]"

--- A string that ends with a NUL: at most so many bytes of it.
---@return string
function memory.string(self, d, a, max)
  local view = check(self, d, a)
  local buffer = ffi.new("char[?]", max)
  local err = C.view_read_string(view, 0, a, buffer, max, length)
  if err ~= nil then
    fail(err, self, d, a)
  end
  return ffi.string(buffer, length[0])
end

-- --- storing ---

-- Always by a call: LuaJIT believes that stores of one size do not change loads of another.

local function check_store(self, d, a, n)
  local view = check(self, d, a)
  if view.frozen == 0 then
    if n ~= 1 and n ~= 2 and n ~= 4 and n ~= 8 then
      errors.raise("running", ("%s: %d bytes cannot be written at once while the machine runs"):format(
        name_of(self, d), n), "vm:freeze() first; words of 1, 2, 4 or 8 bytes can be written at any time")
    elseif a % n ~= 0ULL then
      errors.raise("running", ("%s at %s: a word that is not aligned cannot be written at once while the "
        .. "machine runs"):format(name_of(self, d), address.hex(a)), "vm:freeze() first")
    end
  end
  return view
end

--- Writes a word of 1, 2, 4 or 8 bytes. Raises "running" where that is not possible at once.
---@param value ffi.cdata* uint64_t
function memory.store(self, d, a, n, value)
  local err = C.view_write_scalar(check_store(self, d, a, n), a, n, value)
  if err ~= nil then
    fail(err, self, d, a)
  end
end

--- Writes what is more than a word; frozen only, or a word after all.
---@param bytes string
function memory.store_bytes(self, d, a, bytes)
  if #bytes == 0 then
    return
  end
  local view = check_store(self, d, a, #bytes)
  local err
  if view.frozen == 0 then
    local word = ffi.new "uint64_t[1]"
    ffi.copy(word, bytes, #bytes)
    err = C.view_write_scalar(view, a, #bytes, word[0])
  else
    err = C.view_write(view, 0, a, bytes, #bytes)
  end
  if err ~= nil then
    fail(err, self, d, a)
  end
end

--- Changes bits of a word: frozen only, since the guest may change the others in between.
---@param word ffi.cdata* uint64_t
function memory.check_frozen(self, d, a, why)
  if check(self, d, a).frozen == 0 then
    errors.raise("running", ("%s: %s"):format(name_of(self, d), why), "vm:freeze() first")
  end
end

memory.find, memory.call = find, call

return memory
