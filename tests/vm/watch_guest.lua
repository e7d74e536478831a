-- The tiny guest's scenario `watch` (guest/tiny/watch.h), as specs talk to it, and core's watches.
local bit = require "bit"
local ffi = require "ffi"
local core = require "ktstr.core"
local tiny_guest = require "tests.vm.tiny_guest"

local wire = core.wire

local watch_guest = {
  pages = tiny_guest.address.watch, -- where it writes
}

local Guest = {}
Guest.__index = Guest

local OPS = { ["=="] = 1, ["~="] = 2, ["<"] = 3, ["<="] = 4, [">"] = 5, [">="] = 6, changed = 7, ["&"] = 8 }
local BACKENDS = { register = 1, page = 2 }
local KINDS = { [0] = "write", "call", "return" }

--- A guest that waits for requests; killed when the test ends.
---@param finally fun(f: fun())
---@param cpus integer|nil
function watch_guest.start(finally, cpus)
  local machine = tiny_guest.start("watch", finally, { cpus = cpus or 1, timeout = 280 })
  return setmetatable({ machine = machine, fires = {}, last_id = 0, cpus = cpus or 1 }, Guest)
end

--- A watch of the page's `offset`; its number. Fires are in self.fires.
---@param offset integer
---@param size integer
---@param options { counts: boolean|nil, backend: string|nil, when: table|nil, signed: boolean|nil,
---  rate: integer|nil }|nil
function Guest:watch(offset, size, options)
  options = options or {}
  local at = (options.code and 0 or watch_guest.pages) + offset
  local when = options.when or {}
  local words = ffi.new("uint64_t[12]", at, at, size, options.signed and 1 or 0, options.counts and 1 or 0,
    BACKENDS[options.backend] or 0, OPS[when[1]] or 0, ffi.cast("int64_t", when[2] or 0), 0,
    options.rate or 0, options.code and 1 or 0, options.returns and 1 or 0)
  return self.machine:watch(ffi.string(words, ffi.sizeof(words)), ("0x%x"):format(offset))
end

function Guest:take_fires()
  for _, raw in ipairs((self.machine:take_fires())) do
    local words = ffi.new "uint64_t[11]"
    ffi.copy(words, raw.words, ffi.sizeof(words))
    self.fires[#self.fires + 1] = {
      watch = tonumber(words[0]), cpu = tonumber(words[1]), number = tonumber(words[2]),
      rip = tonumber(words[3]), before = words[4], after = words[5], raced = words[7] ~= 0, tag = raw.tag,
      kind = KINDS[tonumber(words[10])],
    }
  end
end

--- Has a routine begin; finish() waits for it.
---@param routine string
---@param count integer|nil 1
---@param offset integer|nil 0
function Guest:begin(routine, count, offset)
  self.last_id = self.last_id + 1
  self.machine:send(wire.MSG_OP_REQUEST, wire.op_request(self.last_id, wire.OP_READ, wire.pack {
    { "PATH", routine }, { "OFFSET", offset or 0 }, { "LENGTH", count or 1 },
  }))
end

--- Takes in one thing that happens. True: it was the reply, in self.results.
function Guest:turn(timeout)
  local kind, payload = self.machine:recv(timeout or 250)
  if not kind then
    assert(payload == "watch" or payload == "timeout", payload)
    self:take_fires()
    return false
  end
  local reply = kind == wire.MSG_OP_REPLY and wire.decode(kind, payload)
  if not reply or reply.id ~= self.last_id then
    return false
  end
  assert(reply.error == 0, reply.strerror)
  self.results = {}
  local words = ffi.new("uint64_t[?]", #reply.body / 8)
  ffi.copy(words, reply.body, #reply.body)
  for i = 1, #reply.body / 8 do
    self.results[i] = words[i - 1]
  end
  return true
end

--- What the routine came to on each CPU.
function Guest:finish()
  while not self:turn() do
  end
  self:take_fires()
  return self.results
end

function Guest:run(routine, count, offset)
  self:begin(routine, count, offset)
  return self:finish()
end

local function hex(value)
  return (bit.tohex(value, 16):gsub("^0+(.)", "%1"))
end

--- What the fires since the last call say, as "0 -> 1", those of one watch.
---@param id integer|nil nil: all
---@return string[]
function Guest:changes(id)
  local list, kept = {}, {}
  for _, fire in ipairs(self.fires) do
    if not id or fire.watch == id then
      list[#list + 1] = ("%s -> %s"):format(hex(fire.before), hex(fire.after))
    else
      kept[#kept + 1] = fire
    end
  end
  self.fires = kept
  return list
end

function Guest:hits(id)
  return self.machine:watch_counts(id).hits
end

--- Eight bytes of its pages.
---@return ffi.cdata* uint64_t
function Guest:word(offset)
  self.machine:freeze()
  local bytes = self.machine:read_physical(watch_guest.pages + (offset or 0), 8)
  self.machine:thaw()
  return ffi.cast("const uint64_t *", bytes)[0]
end

return watch_guest
