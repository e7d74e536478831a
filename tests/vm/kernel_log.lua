-- Kernel logs as `dmesg -r` prints them: what in one is a complaint, and what only one of two has.
local kernel_log = {}

local WARNING = 4

-- Words that make a line a complaint whatever its level: much of what is wrong with tables, clocks and
-- CPUs is said at "info" or below.
local COMPLAINTS = {
  "error", "fail", "bug", "invalid", "unknown", "warn", "unstable", "unsupported", "not supported",
  "conflict", "mismatch", "inconsistent", "broken", "missing", "bogus", "cannot", "unable", "not valid",
  "out of range", "overlap", "fault",
}

-- What a guest of ktstr alone may say, as short as can be, and why.
kernel_log.excused = {
  -- About the host's time: an interrupt took longer than expected, said once a boot. Under emulation some
  -- boots have it, in either machine.
  "^hrtimer: interrupt took N ns$",
  -- Likewise: a real-time thread of the kernel's had a CPU for 0.95 s of a second, most of which the host did
  -- not give it. No test has real-time work of its own that goes on for so long.
  "^sched: RT throttling activated$",
  -- There are no SMBIOS tables. This is how the kernel says so, and nothing follows from it.
  "^DMI:? not present or invalid%.$",
}

-- Numbers and addresses differ from boot to boot and from machine to machine: N stands for each.
local function normalise(text)
  return (text:gsub("0x%x+", "N"):gsub("%f[%w]%x*%d%x*%f[%W]", "N"):gsub("%s+", " "):gsub(" $", ""))
end

local function is_complaint(level, text)
  if level <= WARNING then
    return true
  end
  text = text:lower():gsub("debug", "")
  for _, word in ipairs(COMPLAINTS) do
    if text:find("%f[%w]" .. word) then
      return true
    end
  end
  return false
end

--- The lines of a log.
---@param log string lines of the form "<6>[    0.123456] text"
---@return { level: integer, text: string, line: string }[]
function kernel_log.parse(log)
  local entries = {}
  for line in log:gmatch "[^\r\n]+" do
    local priority, text = line:match "^<(%d+)>%[ *[%d.]+%] ?(.*)$"
    if not priority then
      error(("not a line of a kernel log: %q"):format(line))
    end
    entries[#entries + 1] = { level = tonumber(priority) % 8, text = normalise(text), line = line }
  end
  return entries
end

--- Warnings and worse, and lines that complain at any level, that are in the first log and not in the
--- second, where the numbers in them do not count; each once, and none that is excused.
---@param ours string
---@param theirs string
---@return string[] lines as they are in the log
function kernel_log.complaints_only_in(ours, theirs)
  local known, found = {}, {}
  for _, entry in ipairs(kernel_log.parse(theirs)) do
    known[entry.text] = true
  end
  for _, entry in ipairs(kernel_log.parse(ours)) do
    if is_complaint(entry.level, entry.text) and not known[entry.text] then
      known[entry.text] = true
      local excused = false
      for _, pattern in ipairs(kernel_log.excused) do
        excused = excused or entry.text:find(pattern) ~= nil
      end
      if not excused then
        found[#found + 1] = entry.line
      end
    end
  end
  return found
end

return kernel_log
