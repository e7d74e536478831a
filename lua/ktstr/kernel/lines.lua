-- Source lines: k:line(). From a vmlinux with DWARF, which is somebody's to have: it is named, or lies where
-- builds and debug packages put it. What is read is C's (core/kernel/lines.h); nothing is opened before the
-- first question.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local address = require "ktstr.kernel.address"
local c = require "ktstr.kernel.c"
local errors = require "ktstr.errors"
local files = require "ktstr.files"

local C = ffi.C

local lines = {}

local NOTES_MAX = 64 * 1024
local NT_GNU_BUILD_ID = 3
local ENVIRONMENT = "KTSTR_VMLINUX"

---@class ktstr.SourceLine tostring() is "kernel/sched/core.c:6763", and the outermost call that inlined it
---@field file string of the kernel's tree: "kernel/sched/core.c"; what is elsewhere by its whole path
---@field line integer
---@field column integer|nil
---@field name string|nil the function whose source it is
---@field inlined ktstr.SourceLine[] the calls by which that function was inlined here, from the inside out:
---  the last is in the function that the symbol names; empty where it is the symbol's own
local SourceLine = {}
SourceLine.__index = SourceLine

local function place(self)
  return ("%s:%d"):format(self.file, self.line)
end

function SourceLine:__tostring()
  if #self.inlined == 0 then
    return place(self)
  end
  -- Some are inlined ten deep: the ends are what fits a line.
  return ("%s (%s, inlined at %s)"):format(place(self), self.name or "?", place(self.inlined[#self.inlined]))
end

-- --- which build ---

local function align(value)
  return math.ceil(value / 4) * 4
end

-- The bytes of the kernel's own NT_GNU_BUILD_ID, as it runs; nil: it has none.
local function build_id(k)
  if not access.has_symbol(k, "__start_notes") or not access.has_symbol(k, "__stop_notes") then
    return nil
  end
  local start = access.symbol(k, "__start_notes")
  local size = tonumber(access.symbol(k, "__stop_notes") - start)
  if size > NOTES_MAX then
    return nil
  end
  local notes = k:read(address.new(start), size)
  local words, at = ffi.new "uint32_t[3]", 0
  while at + 12 <= size do
    ffi.copy(words, notes:sub(at + 1, at + 12), 12)
    local name_at = at + 12
    local id_at = name_at + align(words[0])
    if words[2] == NT_GNU_BUILD_ID and notes:sub(name_at + 1, name_at + 4) == "GNU\0"
      and id_at + words[1] <= size then
      return notes:sub(id_at + 1, id_at + words[1])
    end
    at = id_at + align(words[1])
  end
end

local function hex(bytes)
  return (bytes:gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end))
end

-- --- which file ---

local opened = {} -- by path and build: one file serves all machines

-- Raises what C says.
local function open(path, id)
  local key = path .. "\0" .. id
  local found = opened[key]
  if not found then
    local ret = ffi.new "struct lines *[1]"
    c.check(C.lines_open(path, id, #id, ret))
    found = ffi.gc(ret[0], C.lines_close)
    opened[key] = found
  end
  return found
end

-- Who names a file means it. Returns it, and what named it.
local function named(k)
  if k._vm.vmlinux then
    return k._vm.vmlinux, ""
  end
  local path = os.getenv(ENVIRONMENT)
  if path and path ~= "" then
    return path, ENVIRONMENT .. ": "
  end
end

-- Where a vmlinux with DWARF usually is. Most of these are not there.
local function candidates(k, id)
  local plan, release = k._vm.plan or {}, k._vm.release
  local kernel = plan.kernel or {}
  local path = kernel.path or plan.given and plan.given.kernel
  local directory = path and (files.is_directory(path) and path or path:match "^(.*)/[^/]*$")
  local text = hex(id)
  local list = { ("/usr/lib/debug/.build-id/%s/%s.debug"):format(text:sub(1, 2), text:sub(3)) }
  local function add(before, after)
    if before then
      list[#list + 1] = before .. after
    end
  end
  add(kernel.vmlinux, "")
  add(path, "")
  add(kernel.tree, "/vmlinux")
  add(directory, "/vmlinux")
  if release then
    add(directory, "/vmlinux-" .. release)
    add("/usr/lib/debug/boot/vmlinux-", release)
    add("/usr/lib/debug/lib/modules/", release .. "/vmlinux")
    add("/lib/modules/", release .. "/vmlinux")
    add("/lib/modules/", release .. "/build/vmlinux")
    add("/boot/vmlinux-", release)
  end
  return list
end

-- One that is of use, or nil: what has no DWARF, or is of another build, is passed over.
local function find(k, id)
  for _, path in ipairs(candidates(k, id)) do
    if files.is_file(path) then
      local ok, found = pcall(open, path, id)
      if ok then
        return found
      elseif errors.is(found, "interrupted") or errors.is(found, "no-memory") then
        error(found, 0)
      end
    end
  end
end

local NO_BUILD_ID = "the kernel does not say its build ID, so nobody can tell which vmlinux is its own"

-- A file of lines, or nil and why there is none. Raises when one was named that is of no use.
local function file_of(k)
  if k._lines ~= nil then
    return k._lines or nil, k._no_lines
  end
  k:_ready()
  local id = build_id(k)
  local path, source = named(k)
  if path then
    if not id then
      errors.raise("unsupported", NO_BUILD_ID)
    end
    local ok, found = pcall(open, path, id)
    if not ok then
      if errors.is(found) then
        found.message = source .. found.message
      end
      error(found, 0)
    end
    k._lines = found
    return found
  end
  k._lines = id and find(k, id) or false
  if not k._lines then
    k._no_lines = id and ("no vmlinux with DWARF was found for %s"):format(tostring(k)) or NO_BUILD_ID
  end
  return k._lines or nil, k._no_lines
end

-- --- asking ---

local Places = ffi.typeof "struct line_place[32]"
local Count = ffi.typeof "uint32_t[1]"

local function source_line(raw, inlined)
  local name = ffi.string(raw["function"])
  return setmetatable({
    file = ffi.string(raw.file),
    line = raw.line,
    column = raw.column > 0 and raw.column or nil,
    name = name ~= "" and name or nil,
    inlined = inlined,
  }, SourceLine)
end

local function line_at(k, at)
  local file, why = file_of(k)
  if not file then
    return nil, why
  end
  local places, count = Places(), Count()
  c.check(C.lines_find(file, at - k._view.slide, places, count))
  if count[0] == 0 then
    return nil, ("the debugging information has no line for %s"):format(address.hex(at))
  end
  local calls = {}
  for i = 1, count[0] - 1 do
    calls[i] = source_line(places[i], {})
  end
  return source_line(places[0], calls)
end

--- The source line that the code at an address was made of, by a vmlinux with DWARF: the one that was named
--- (the option `vmlinux`, $KTSTR_VMLINUX), the kernel's own, or one that is where builds and debug packages
--- put it. Of an address that a call returns to, the call's line is that of the byte before. nil, and why,
--- where there is no such file, or no line: of modules there is none. Raises "not-found", "unsupported" (no
--- DWARF, another build) and "format" for a file that was named, "format" for one that is damaged;
--- "not-found" and "ambiguous" for a function's name; "invalid" and "stale" for an object.
---   print(k:line "schedule")     --> kernel/sched/core.c:7367
---@param k ktstr.Kernel
---@param where string|ktstr.Address|ktstr.Object|number a function's name, or an address
---@return ktstr.SourceLine|nil, string|nil
function lines.line(k, where)
  return line_at(k, type(where) == "string" and access.symbol(k, where) or access.place(k, where))
end

local told = {}

--- The same for those that show it beside something else, which is not to fail for it: what is wrong with a
--- file is said once.
---@param k ktstr.Kernel
---@param at ffi.cdata* uint64_t
---@return ktstr.SourceLine|nil
function lines.beside(k, at)
  local ok, found = pcall(line_at, k, at)
  if ok then
    return found
  elseif not errors.is(found) or errors.is(found, "interrupted") or errors.is(found, "freeze-limit") then
    error(found, 0)
  end
  -- What is left of a machine that has ended is shown as it is: nothing is wrong with any file.
  if found.code ~= "ended" and not told[found.message] then
    told[found.message] = true
    io.stdout:flush()
    io.stderr:write("ktstr: warning: no source lines: ", tostring(found), "\n")
  end
end

--- Opens the kernel's file, where there is one: for who is about to ask while a machine is frozen.
---@param k ktstr.Kernel
function lines.prepare(k)
  lines.beside(k, 0ULL)
end

--- A metatable for things that have a field `source`, looked up when it is first asked for. The kernel is not
--- held by it: what is kept of an ended machine has the lines that it was asked for before.
---@param k ktstr.Kernel
---@param place_of fun(thing: table): ffi.cdata* its address, as uint64_t
---@return table
function lines.late(k, place_of)
  local held = setmetatable({ k = k }, { __mode = "v" })
  return {
    __index = function(self, name)
      if name == "source" and held.k then
        local found = lines.beside(held.k, place_of(self))
        rawset(self, "source", found)
        return found
      end
    end,
  }
end

--- Of one line, what to print: the innermost first.
---@param source ktstr.SourceLine|nil
---@return string[]
function lines.text(source)
  if not source then
    return {}
  elseif #source.inlined == 0 then
    return { place(source) }
  end
  local list = { ("%s (%s, inlined)"):format(place(source), source.name or "?") }
  for i, call in ipairs(source.inlined) do
    local last = i == #source.inlined
    list[i + 1] = last and place(call) or ("%s (%s, inlined)"):format(place(call), call.name or "?")
  end
  return list
end

return lines
