-- The kernel's clocks: jiffies, the times of its timekeeper, per-CPU counters.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"

local clocks = {}

--- jiffies, all 64 bits of it.
---@param k ktstr.Kernel
---@return integer
function clocks.jiffies(k)
  return access.number(access.global_word(k, "jiffies_64"))
end

local SEQUENCE = "seqcount_raw_spinlock_t"

-- struct timekeeper: behind its sequence counter, which is larger with lockdep; in a struct that has had a
-- name since 6.13.
local function timekeeper(k)
  local place
  if access.has_symbol(k, "timekeeper_data") then
    place = access.symbol(k, "timekeeper_data") + access.offset(k, "struct tk_data", "timekeeper")
  else
    local size = access.has_type(k, SEQUENCE) and access.size(k, SEQUENCE) or 4
    place = access.symbol(k, "tk_core") + math.ceil(size / 8) * 8
  end
  return access.object(k, "struct timekeeper", place)
end

--- The kernel's times in nanoseconds, as of the last time that it brought them up to date (a tick ago, or as
--- long as all CPUs have been idle): monotonic, boottime, realtime.
---@param k ktstr.Kernel
---@return { monotonic: integer, boottime: integer, realtime: integer }
function clocks.clocks(k)
  local tk = timekeeper(k)
  local reader = tk.tkr_mono
  local function s64(value)
    return ffi.cast("int64_t", value)
  end
  local monotonic = s64(reader.base) + s64(bit.rshift(ffi.cast("uint64_t", reader.xtime_nsec), reader.shift))
  return {
    monotonic = access.signed(monotonic),
    boottime = access.signed(monotonic + s64(tk.offs_boot)),
    realtime = access.signed(monotonic + s64(tk.offs_real)),
  }
end

--- The sum of a struct percpu_counter: what it has collected, and what each CPU has not handed in yet.
---@param k ktstr.Kernel
---@param counter ktstr.Object
---@return integer
function clocks.percpu_counter(k, counter)
  local sum = ffi.cast("int64_t", counter.count)
  local m = access.memory(k)
  local own = access.member_word(k, counter, "counters")
  for _, cpu in ipairs(k:cpus "possible") do
    sum = sum + access.s32(m, access.per_cpu(k, own, cpu))
  end
  return access.signed(sum)
end

return clocks
