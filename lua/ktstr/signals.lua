-- Signals by name, as Linux numbers them on x86-64.
local errors = require "ktstr.errors"
local nearest = require "ktstr.nearest"

local signals = { ESRCH = 3 }

local numbers = {
  HUP = 1, INT = 2, QUIT = 3, ILL = 4, TRAP = 5, ABRT = 6, BUS = 7, FPE = 8, KILL = 9, USR1 = 10, SEGV = 11,
  USR2 = 12, PIPE = 13, ALRM = 14, TERM = 15, STKFLT = 16, CHLD = 17, CONT = 18, STOP = 19, TSTP = 20,
  TTIN = 21, TTOU = 22, URG = 23, XCPU = 24, XFSZ = 25, VTALRM = 26, PROF = 27, WINCH = 28, IO = 29,
  PWR = 30, SYS = 31,
}

local MAX_SIGNAL = 64

-- What a program gets for what it has done itself.
local CRASHES = { [numbers.ILL] = true, [numbers.TRAP] = true, [numbers.ABRT] = true, [numbers.BUS] = true,
  [numbers.FPE] = true, [numbers.SEGV] = true, [numbers.SYS] = true }

---@param signal integer
---@return boolean
function signals.is_crash(signal)
  return CRASHES[signal] or false
end

--- Raises "invalid" naming the nearest.
---@param signal integer|string 9, "KILL", "SIGKILL"
---@return integer
function signals.number(signal)
  if type(signal) == "number" and signal % 1 == 0 and signal >= 1 and signal <= MAX_SIGNAL then
    return signal
  end
  local name = tostring(signal):upper():gsub("^SIG", "")
  if not numbers[name] then
    local names = {}
    for known in pairs(numbers) do
      names[#names + 1] = known
    end
    errors.refuse("invalid", ("unknown signal '%s'"):format(tostring(signal)), nearest.hint(name, names))
  end
  return numbers[name]
end

return signals
