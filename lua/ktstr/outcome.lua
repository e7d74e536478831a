-- What a run came to: the result that scripts get, in words, and the end of the console.
local outcome = {}

local TAIL_LINES = 20
local WORDS_MAX = 300 -- of what came out on COM2, in one line

---@class ktstr.Result
---@field passed boolean the guest reported, and its exit code is 0
---@field exit_code integer the guest's own where it reported; else 0 after Shutdown, -1 otherwise
---@field exit_reason "Shutdown"|"ExternalKill"|"Fatal"|"RunError"|"Timeout" how the boot CPU's loop ended
---@field timed_out boolean the run's wall-clock budget ran out
---@field seconds number of wall time
---@field reported boolean an EXIT frame came, or the sentinel on COM2
---@field console string the kernel's console (the last 4 MiB of it)
---@field last_words string what came out on COM2
---@field detail string|nil what ended it, where there is more to say
---@field failure { kind: string, line: string }|nil what its kernel told of first: "panic", "oops",
---  "soft lockup", "hung task", and the line that said so
---@field warnings string[] what a user should know of a run that went on: a capture that was taken twice, ...
---@field channel table frames received and dropped on port 1

--- Completes what machine:join() says.
---@param result table
---@param console string
---@return ktstr.Result
function outcome.of(result, console)
  result.console = console
  result.last_words = result.last_words or ""
  local warnings = {}
  for line in (result.warnings or ""):gmatch "[^\n]+" do
    warnings[#warnings + 1] = line
  end
  result.warnings = warnings
  result.passed = result.reported and result.exit_code == 0 and not result.timed_out
  return result
end

local reasons = {
  Shutdown = "the guest reset or powered off",
  ExternalKill = "it was stopped",
  Fatal = "the guest died",
  RunError = "KVM could not go on",
  Timeout = "its time was up",
}

local function dropped(counts)
  local parts = {}
  for _, kind in ipairs {
    { "bad_headers", "bad headers" },
    { "bad_payloads", "bad payload checksums" },
    { "unknown", "unknown types" },
    { "skipped_bytes", "bytes skipped" },
  } do
    local count = counts[kind[1]] or 0
    if count > 0 then
      parts[#parts + 1] = ("%s %d"):format(kind[2], count)
    end
  end
  return #parts > 0 and "frames dropped on port 1: " .. table.concat(parts, ", ") or nil
end

--- One line: why the run ended, and what was lost on the way.
---@param result ktstr.Result
---@param timeout number|nil the run's budget in seconds
---@return string
function outcome.describe(result, timeout)
  local parts = { result.detail or reasons[result.exit_reason] or result.exit_reason }
  if result.timed_out then
    parts[1] = timeout and ("its time was up (timeout = %g s)"):format(timeout) or reasons.Timeout
  end
  if result.reported then
    parts[#parts + 1] = ("the guest reported exit code %d"):format(result.exit_code)
  else
    parts[#parts + 1] = "no exit code was reported"
  end
  local words = result.last_words:gsub("KTSTR_EXIT:%-?%d+", ""):match "^%s*(.-)%s*$"
  if words ~= "" then
    words = words:gsub("%s*\n%s*", " | ")
    parts[#parts + 1] = "last words: " .. (#words > WORDS_MAX and words:sub(1, WORDS_MAX) .. "..." or words)
  end
  parts[#parts + 1] = dropped(result.channel or {})
  return table.concat(parts, "; ")
end

--- The last lines of a console, each marked; "" for an empty one.
---@param console string
---@param count integer|nil 20
---@return string
function outcome.tail(console, count)
  count = count or TAIL_LINES
  local lines = {}
  for line in console:gsub("\r", ""):gmatch "[^\n]+" do
    lines[#lines + 1] = "  | " .. line
  end
  local first = math.max(1, #lines - count + 1)
  if #lines == 0 then
    return ""
  end
  return ("  the guest's console, last %d lines:\n"):format(#lines - first + 1)
    .. table.concat(lines, "\n", first)
end

return outcome
