-- Saved machines without machines: what core.image_open and an image's methods do, on real files, so that
-- the cache can be tested where there is no KVM. `memory` is a text, `state` its hash and the identity.
local ffi = require "ffi"
local fcntl = require "posix.fcntl"
local stdlib = require "posix.stdlib"
local unistd = require "posix.unistd"

ffi.cdef "int flock(int fd, int operation);"

local LOCK_EX, LOCK_NB = 2, 4

local fake = {}

local function fail(code, message)
  require("ktstr.errors").raise(code, message)
end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then
    file:close()
  end
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  assert(file:close())
end

--- A hash that needs no core: 32 hex digits.
function fake.hash(text)
  local digits = {}
  for lane = 1, 4 do
    local h = bit.tobit(0x811c9dc5 * lane)
    for i = 1, #text do
      h = bit.bxor(bit.rol(h, 5) + h, text:byte(i) + lane)
      h = bit.tobit(h + bit.lshift(h, 7))
    end
    digits[lane] = bit.tohex(bit.bxor(h, bit.rshift(h, 15)))
  end
  return table.concat(digits)
end

local Image = {}
Image.__index = Image

--- An image as vm:save() gives one: without a name.
function fake.image(identity, memory)
  return setmetatable({ text = identity, memory = memory or "memory", live = true }, Image)
end

function Image:identity()
  assert(self.live, "used after close()")
  return self.text
end

function Image:disk_size()
  return #self.memory
end

function Image:close()
  self.live = false
end

function Image:verify()
  assert(self.live, "used after close()")
  if fake.hash(self.memory) ~= self.sum then
    fail("format", "block 0 of its memory is damaged")
  end
end

--- Called in the middle of a publication, when the draft has one of its two files.
function fake.halfway() end

-- A new directory and its lock; nil when somebody who cleans up was faster.
local function make_draft(path)
  local draft = assert(stdlib.mkdtemp(path .. ".tmp-XXXXXX"))
  local fd = fcntl.open(draft, fcntl.O_RDONLY + fcntl.O_CLOEXEC)
  if fd and ffi.C.flock(fd, LOCK_EX + LOCK_NB) == 0 and unistd.access(draft, "f") then
    return draft, fd
  elseif fd then
    unistd.close(fd)
  end
end

function Image:publish(path)
  local draft, fd
  repeat
    draft, fd = make_draft(path)
  until draft
  write(draft .. "/memory", self.memory)
  fake.halfway(draft)
  write(draft .. "/state", fake.hash(self.memory) .. "\n" .. self.text)
  local ok = os.rename(draft, path)
  if not ok then
    os.remove(draft .. "/memory")
    os.remove(draft .. "/state")
    unistd.rmdir(draft)
  end
  unistd.close(fd)
  if not ok then
    fail("busy", ("there is a '%s' already"):format(path))
  end
end

--- core.image_open.
function fake.open(path)
  local state, memory = read(path .. "/state"), read(path .. "/memory")
  if not state or not memory then
    fail("not-found", ("saved machine '%s': a file is missing"):format(path))
  end
  local sum, text = state:match "^(%x+)\n(.*)$"
  if not sum then
    fail("format", ("saved machine '%s': 'state' is damaged"):format(path))
  end
  local image = fake.image(text, memory)
  image.sum = sum
  return image
end

--- Gives a core what it lacks, and image_open. Returns what undoes that.
function fake.install(core)
  local saved = {}
  local function set(name, value)
    saved[name] = core[name] or false
    core[name] = value
  end
  set("image_open", fake.open)
  set("hash", core.hash or fake.hash)
  set("hash_file", core.hash_file or function(path)
    return fake.hash(read(path) or fail("not-found", "there is no " .. path))
  end)
  set("build_id", function()
    return "0123abcd"
  end)
  set("version", core.version or "0.0.0")
  return function()
    for name, value in pairs(saved) do
      core[name] = value or nil
    end
  end
end

return fake
