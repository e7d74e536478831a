-- Where a kernel's log is, for who reads it while the machine stands still (core/kernel/printk.h): a struct
-- printk_layout as bytes.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local errors = require "ktstr.errors"

local log = {}

local RING, DESCRIPTOR, INFO = "struct printk_ringbuffer", "struct prb_desc", "struct printk_info"

-- In the order of that struct: a member's offset, or a struct's size.
local NUMBERS = {
  { RING, "desc_ring.count_bits" }, { RING, "desc_ring.descs" }, { RING, "desc_ring.infos" },
  { RING, "desc_ring.head_id" }, { RING, "desc_ring.tail_id" },
  { RING, "text_data_ring.size_bits" }, { RING, "text_data_ring.data" },
  { DESCRIPTOR }, { DESCRIPTOR, "state_var" },
  { DESCRIPTOR, "text_blk_lpos.begin" }, { DESCRIPTOR, "text_blk_lpos.next" },
  { INFO }, { INFO, "seq" }, { INFO, "text_len" }, { INFO, "facility" },
}

local function measure(k)
  local words = ffi.new("uint64_t[?]", #NUMBERS + 1)
  words[0] = k:_place(k:_symbol "prb")
  for i, one in ipairs(NUMBERS) do
    words[i] = one[2] and access.offset(k, one[1], one[2]) or access.size(k, one[1])
  end
  return ffi.string(words, ffi.sizeof(words))
end

--- nil where the kernel's types do not tell.
---@param k ktstr.Kernel
---@return string|nil
function log.layout(k)
  local ok, result = pcall(measure, k)
  if ok then
    return result
  elseif not errors.is(result) or result.code == "interrupted" then
    error(result, 0)
  end
end

return log
