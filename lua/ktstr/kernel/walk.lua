-- A bounded walk over linked kernel memory: counts its steps, notices a circle, and says where it was when
-- something is wrong. What is found in memory is believed by nobody here.
local ffi = require "ffi"
local errors = require "ktstr.errors"

local walk = {}

--- So many elements no structure of a kernel under test has: a million tasks, files or symbols.
walk.LIMIT = 2 ^ 20

-- A circle that does not lead back to the beginning is found with one remembered place, moved ahead at every
-- power of two (Brent): no memory, and at most three times the steps of a set of all places.
local State = ffi.typeof [[struct {
  uint64_t start;
  uint64_t at;
  uint64_t mark;
  double steps;
  double power;
  double limit;
}]]

--- Begins a walk. Its place (`at`) is the caller's to move.
---@param start ffi.cdata* uint64_t
---@param limit number|nil
---@return table
function walk.new(start, limit)
  local state = State()
  state.start = start
  state.at = start
  state.mark = 0
  state.power = 1
  state.limit = limit or walk.LIMIT
  return state
end

--- Begins again, elsewhere.
---@param state table
---@param start ffi.cdata* uint64_t
function walk.restart(state, start)
  state.start = start
  state.at = start
  state.mark = 0
  state.steps = 0
  state.power = 1
end

--- As people read addresses.
---@param address ffi.cdata*
---@return string
function walk.hex(address)
  return "0x" .. bit.tohex(address)
end

--- Raises about a walk: what was walked, from where, how far it came and what was wrong there.
---@param state table
---@param what string "the list of struct module.list"
---@param wrong string "the list leads back to here"
---@param code string|nil
---@param hint string|nil what to do, where that is known better
function walk.fail(state, what, wrong, code, hint)
  errors.raise(code or "format", ("%s at %s: %s, at %s after %d steps"):format(what, walk.hex(state.start),
    wrong, walk.hex(state.at), tonumber(state.steps)),
    hint or "a running kernel changes while it is walked: look at a frozen machine")
end

--- One step on, to `address`. Raises "format" when the walk leads to NULL, runs in a circle or never ends.
---@param state table
---@param what string
---@param address ffi.cdata* uint64_t
function walk.step(state, what, address)
  local steps = state.steps + 1
  state.steps = steps
  state.at = address
  if address == 0 then
    walk.fail(state, what, "leads to NULL")
  end
  if address == state.mark then
    walk.fail(state, what, "runs in a circle")
  end
  if steps > state.limit then
    walk.fail(state, what, "does not end")
  end
  if steps == state.power then
    state.power = steps * 2
    state.mark = address
  end
end

--- Counts a step of a walk that branches, where only the number of steps bounds it.
---@param state table
---@param what string
---@param address ffi.cdata* uint64_t
function walk.count(state, what, address)
  local steps = state.steps + 1
  state.steps = steps
  state.at = address
  if steps > state.limit then
    walk.fail(state, what, "does not end")
  end
end

local ABOUT_MEMORY = { unmapped = true, format = true, ["per-cpu"] = true, null = true }

--- Calls f(...), which reads memory; an error it raises says where the walk was, too.
---@param state table
---@param what string
---@param f function
---@return any
function walk.reading(state, what, f, a, b)
  local ok, value = pcall(f, a, b)
  if ok then
    return value
  end
  if errors.is(value) and ABOUT_MEMORY[value.code] then
    walk.fail(state, what, value.message, value.code, value.hint)
  end
  error(value, 0)
end

return walk
