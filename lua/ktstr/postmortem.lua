-- What is said of a guest that has died: its last captures, as text, and as JSON in the run's directory.
local errors = require "ktstr.errors"

local postmortem = {}

local LAST = 5 -- captures
local LINES = 200 -- of the text of the newest one
local TAG = "failure"

-- Files of the run's are named after tests and captures: whatever these have in them, a name is a name.
local function file_name(text)
  return (text:gsub("[^%w%-_.]", "_"):gsub("^%.", "_"))
end

local function last_of(list)
  local last = {}
  for i = math.max(1, #list - LAST + 1), #list do
    last[#last + 1] = list[i]
  end
  return last
end

local function newest(list)
  for i = #list, 1, -1 do
    if list[i].record then
      return list[i]
    end
  end
end

-- What cannot be shown does not hide the failure itself.
local function attempt(f, ...)
  local ok, result = pcall(f, ...)
  if not ok and errors.is(result, "interrupted") then
    error(result, 0)
  end
  return ok, result
end

local function put_text(out, capture)
  local ok, text = attempt(capture.text, capture)
  if not ok then
    out[#out + 1] = ("  it cannot be shown: %s"):format(tostring(text))
    return
  end
  local count = 0
  for line in text:gmatch "[^\n]+" do
    count = count + 1
    if count <= LINES then
      out[#out + 1] = "  " .. line
    end
  end
  if count > LINES then
    out[#out + 1] = ("  ... and %d lines more"):format(count - LINES)
  end
end

local function put_files(out, directory, name, list)
  local ok, e = attempt(require("ktstr.files").make_directory, directory)
  for i = 1, ok and #list or 0 do
    local path = ("%s/%s.%s.json"):format(directory, file_name(name), file_name(list[i].tag))
    ok, e = attempt(list[i].json, list[i], path)
    if not ok then
      break
    end
    out[#out + 1] = "  written: " .. path
  end
  if not ok then
    out[#out + 1] = ("  KTSTR_RUN_DIR: %s"):format(tostring(e))
  end
end

--- Where a run's files go; nil: nobody wants them.
---@return string|nil
function postmortem.directory()
  local directory = os.getenv "KTSTR_RUN_DIR"
  return directory ~= "" and directory or nil
end

--- The last captures of a machine, as lines; the files are written meanwhile.
---@param captures ktstr.Capture[]
---@param name string the test's, or the machine's
---@param why string
---@return string[]
function postmortem.describe(captures, name, why)
  local out = { ("ktstr: %s: %s"):format(name, why) }
  local list = last_of(captures)
  if #list == 0 then
    out[2] = "  there are no captures"
    return out
  end
  out[2] = #captures == 1 and "  its one capture:" or ("  %d captures%s:"):format(#captures,
    #captures > LAST and (", the last %d of them"):format(LAST) or "")
  for _, one in ipairs(list) do
    out[#out + 1] = "  " .. tostring(one)
  end
  local one = newest(list)
  if one then
    put_text(out, one)
  end
  local directory = postmortem.directory()
  if directory then
    put_files(out, directory, name, list)
  else
    out[#out + 1] = "  KTSTR_RUN_DIR=DIRECTORY in the environment has them written there, as JSON"
  end
  return out
end

local function dump(vm, why)
  local ok, lines = attempt(function()
    return postmortem.describe(vm:captures(), vm.name or "a machine", why)
  end)
  io.stdout:flush()
  io.stderr:write(ok and table.concat(lines, "\n") or "ktstr: no captures: " .. tostring(lines), "\n")
end

--- Says on stderr that a machine's kernel has failed, and what there is of it.
---@param vm ktstr.VM
---@param failure { kind: string, line: string }
function postmortem.of_kernel(vm, failure)
  dump(vm, ("the guest's kernel has failed (%s): %s"):format(failure.kind, failure.line))
end

local function is_captured(vm)
  for _, one in ipairs(vm:captures()) do
    if one.tag == TAG then
      return true
    end
  end
  return false
end

--- The same, once, of a machine whose workload has died, with one capture more where it still can be taken.
---@param vm ktstr.VM
---@param why string
function postmortem.of_workload(vm, why)
  if vm.was_dumped then
    return
  end
  vm.was_dumped = true
  -- What the kernel has come to says more about the cause: it is earlier.
  if not vm.result and not vm.channel.ended and not vm:is_frozen() and not is_captured(vm) then
    local ok, e = attempt(vm.capture, vm, TAG)
    if not ok then
      why = ("%s\n  no capture of that moment: %s"):format(why, tostring(e))
    end
  end
  dump(vm, why)
end

return postmortem
