-- The kernel's messages, read from the printk ring buffer.
local access = require "ktstr.kernel.access"
local errors = require "ktstr.errors"
local printk = require "ktstr.kernel.printk"

local dmesg = {}

local MAX_BITS = 31 -- of the number of descriptors, and of the bytes of text

---@class ktstr.PrintkRecord
---@field sequence integer
---@field time integer nanoseconds since the start of the kernel's clock
---@field level integer 0 emergency to 7 debug
---@field facility integer 0: the kernel
---@field caller string "T1": the task with that pid; "C0": an interrupt on that CPU
---@field subsystem string|nil of a device's message
---@field device string|nil
---@field text string without the newline at its end

local function check_bits(bits, what)
  if bits < 1 or bits > MAX_BITS then
    errors.raise("format", ("the printk ring buffer says that it has 2^%s %s"):format(tostring(bits), what))
  end
  return bits
end

-- The ring's parts, with addresses as uint64_t.
local function open(k)
  -- prb points to the buffer in use: printk_rb_static until the kernel has allocated a larger one.
  local rb = access.pointed(k, "prb", "struct printk_ringbuffer")
  local descriptors, text = rb.desc_ring, rb.text_data_ring
  local m = access.memory(k)
  local function word(object, member)
    return access.word(m, access.address(object:member_(member)))
  end
  return {
    memory = m,
    count_bits = check_bits(descriptors.count_bits, "descriptors"),
    size_bits = check_bits(text.size_bits, "bytes"),
    descriptors = word(descriptors, "descs"),
    infos = word(descriptors, "infos"),
    first = word(descriptors, "tail_id"),
    last = word(descriptors, "head_id"),
    text = word(text, "data"),
    descriptor_size = access.size(k, "struct prb_desc"),
    info_size = access.size(k, "struct printk_info"),
    lpos = access.offset(k, "struct prb_desc", "text_blk_lpos"),
  }
end

local function state_of(ring, descriptor, id)
  return printk.state(access.word(ring.memory, descriptor), id)
end

-- The text, or nil when it has been overwritten.
local function text_of(k, ring, descriptor, id, length)
  local first = access.word(ring.memory, descriptor + ring.lpos)
  local behind = access.word(ring.memory, descriptor + ring.lpos + 8)
  local offset, room = printk.block(first, behind, ring.size_bits)
  if not offset then
    return nil
  end
  if room == 0 then
    return ""
  end
  local block = ring.text + offset
  if access.word(ring.memory, block) ~= id then
    return nil
  end
  return k:read(access.pointer(block + printk.ID_BYTES), math.min(length, room))
end

local function present(info, text)
  local device = info.dev_info
  return {
    sequence = info.seq,
    time = info.ts_nsec,
    level = info.level,
    facility = info.facility,
    caller = printk.caller(info.caller_id),
    subsystem = device.subsystem ~= "" and device.subsystem or nil,
    device = device.device ~= "" and device.device or nil,
    text = text,
  }
end

-- The record with an id. nil: there is none, since it is lost, or still being written: by a CPU that may
-- never come to its end while others go on.
local function read_record(k, ring, id)
  local index = bit.band(id, bit.lshift(1ULL, ring.count_bits) - 1)
  local descriptor = ring.descriptors + index * ring.descriptor_size
  if state_of(ring, descriptor, id) ~= printk.FINALIZED then
    return nil
  end
  local info = access.object(k, "struct printk_info", ring.infos + index * ring.info_size)
  local text = text_of(k, ring, descriptor, id, info.text_len)
  local record = text and present(info, text)
  -- On a running machine the kernel may have taken the place for another record meanwhile.
  return state_of(ring, descriptor, id) == printk.FINALIZED and record or nil
end

--- The records of the kernel's log, the oldest first; what is overwritten or still being written is left out.
---@param k ktstr.Kernel
---@return fun(): ktstr.PrintkRecord|nil
function dmesg.printk_records(k)
  local ring = open(k)
  local left = 2 ^ ring.count_bits
  local id = ring.first
  return function()
    while left > 0 do
      left = left - 1
      local record = read_record(k, ring, id)
      if id == ring.last then
        left = 0
      end
      id = printk.next_id(id)
      if record then
        return record
      end
    end
  end
end

--- The kernel's log as dmesg(1) prints it: one line a message, "[    0.123456] text", each with a newline.
---@param k ktstr.Kernel
---@return string
function dmesg.dmesg(k)
  local lines = {}
  for record in dmesg.printk_records(k) do
    lines[#lines + 1] = printk.format(record) .. "\n"
  end
  return table.concat(lines)
end

return dmesg
