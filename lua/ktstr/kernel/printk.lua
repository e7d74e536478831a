-- The printk ring buffer: what a descriptor says and where its text lies. Arithmetic only; kernel/dmesg.lua
-- reads the memory.
local ffi = require "ffi"

local printk = {}

local STATE_SHIFT = 62
local ID_MASK = bit.bnot(bit.lshift(3ULL, STATE_SHIFT))
local ID_BYTES = 8 -- a data block begins with the id of its descriptor
local EMPTY_LINE = 3ULL -- as begin and next: a record without text; another odd one: the text is lost

--- The states that a descriptor can be in.
printk.RESERVED, printk.COMMITTED, printk.FINALIZED, printk.REUSABLE = 0, 1, 2, 3

--- What a descriptor's state_var says of the record with this id.
---@param state_var ffi.cdata* uint64_t
---@param id ffi.cdata* uint64_t
---@return integer|nil state nil: it is another record's by now
function printk.state(state_var, id)
  if bit.band(state_var, ID_MASK) ~= bit.band(id, ID_MASK) then
    return nil
  end
  return tonumber(bit.rshift(state_var, STATE_SHIFT))
end

--- The id that follows. Ids wrap below the state's bits.
---@param id ffi.cdata* uint64_t
---@return ffi.cdata* uint64_t
function printk.next_id(id)
  return bit.band(id + 1, ID_MASK)
end

--- Where a record's text lies in the data ring.
---@param first ffi.cdata* uint64_t text_blk_lpos.begin
---@param behind ffi.cdata* uint64_t text_blk_lpos.next
---@param size_bits integer the ring has 2^size_bits bytes
---@return integer|nil offset of the block in the ring; nil: the text is lost
---@return integer length in bytes of the text with its padding
function printk.block(first, behind, size_bits)
  if bit.band(first, 1ULL) == 1ULL and bit.band(behind, 1ULL) == 1ULL then
    if first == EMPTY_LINE and behind == EMPTY_LINE then
      return 0, 0
    end
    return nil, 0
  end
  local size = bit.lshift(1ULL, size_bits)
  local offset, length
  -- A block never lies across the ring's end: one that would is at its beginning, as a whole.
  local wrap, last_wrap = bit.rshift(first, size_bits), bit.rshift(behind - 1, size_bits)
  if wrap == last_wrap then
    offset, length = bit.band(first, size - 1), behind - first
  elseif wrap + 1 == last_wrap then
    offset, length = 0ULL, bit.band(behind, size - 1)
  else
    return nil, 0
  end
  if bit.band(bit.bor(first, behind), ID_BYTES - 1ULL) ~= 0ULL or length <= ID_BYTES or length > size then
    return nil, 0
  end
  return tonumber(offset), tonumber(length) - ID_BYTES
end

--- The bytes before the text in its block.
printk.ID_BYTES = ID_BYTES

--- "[    1.234567] " of a time in nanoseconds.
---@param nanoseconds ffi.cdata*|number
---@return string
function printk.time(nanoseconds)
  local ns = ffi.cast("uint64_t", nanoseconds)
  return ("[%5.0f.%06.0f] "):format(tonumber(ns / 1000000000), tonumber(ns % 1000000000 / 1000))
end

--- A record's lines as dmesg prints them: each with its time, also the ones within a message.
---@param record { time: ffi.cdata*|number, text: string }
---@return string without the last newline
function printk.format(record)
  local prefix = printk.time(record.time)
  return prefix .. record.text:gsub("\n", "\n" .. prefix)
end

--- Who printed: "T12" a task, "C3" an interrupt on a CPU.
---@param caller_id integer
---@return string
function printk.caller(caller_id)
  local in_task = caller_id < 2 ^ 31
  return (in_task and "T%d" or "C%d"):format(in_task and caller_id or caller_id - 2 ^ 31)
end

return printk
