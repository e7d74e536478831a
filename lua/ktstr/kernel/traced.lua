-- Return addresses that tracing has replaced: the function graph tracer and return probes put their own in
-- place of a caller's, and remember that one with the task.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local memory = require "ktstr.kernel.memory"

local traced = {}

-- The last two: before return probes had rethook, which remembers otherwise.
local TRAMPOLINES = { "return_to_handler", "arch_rethook_trampoline", "__kretprobe_trampoline",
  "kretprobe_trampoline" }
local TASK, GRAPH, HOOK = "struct task_struct", "struct ftrace_ret_stack", "struct rethook_node"
local MOST = 512 -- of each kind: the graph tracer's are at most 50, or what a page holds
local OFFSET_MASK = 0x3ffULL -- FGRAPH_FRAME_OFFSET_MASK
local WORD = 8

local Words, Returns = ffi.typeof "uint64_t[?]", ffi.typeof "struct unwind_return[?]"

local function add(list, at, address)
  if #list < 2 * MOST then
    list[#list + 1] = { at, address }
  end
end

-- Until 6.10 an array of structs, the last in use at curr_ret_stack (-1: none).
local function add_array(list, k, m, base, last)
  local size = access.size(k, GRAPH)
  local ret, place = access.offset(k, GRAPH, "ret"), access.offset(k, GRAPH, "retp")
  for i = 0, math.min(last, MOST) do
    local entry = base + i * size
    add(list, access.word(m, entry + place), access.word(m, entry + ret))
  end
end

-- From 6.11 on words: each struct is followed by what tracers keep with it, and by a word that says how far
-- back the struct is. curr_ret_stack is behind the last of these.
local function add_stack(list, k, m, base, top)
  local ret, place = access.offset(k, GRAPH, "ret"), access.offset(k, GRAPH, "retp")
  while top > 0 and top <= MOST do
    local back = tonumber(bit.band(access.word(m, base + (top - 1) * WORD), OFFSET_MASK))
    top = top - 1 - back
    if back == 0 or top < 0 then
      return
    end
    local entry = base + top * WORD
    add(list, access.word(m, entry + place), access.word(m, entry + ret))
  end
end

local function add_graph(list, k, m, task)
  if not access.has(k, TASK, "ret_stack") or not access.has_type(k, GRAPH)
    or not access.has(k, GRAPH, "retp") then
    return
  end
  local base = access.member_word(k, task, "ret_stack")
  if base ~= access.zero then
    local target = access.type(k, TASK):member("ret_stack").type:target()
    local add_all = target:has_members() and add_array or add_stack
    add_all(list, k, m, base, task.curr_ret_stack)
  end
end

local function add_probes(list, k, m, task)
  if not access.has(k, TASK, "rethooks") or not access.has_type(k, HOOK) then
    return
  end
  local link, frame = access.offset(k, HOOK, "llist"), access.offset(k, HOOK, "frame")
  local ret = access.offset(k, HOOK, "ret_addr")
  local at = access.member_word(k, task, "rethooks")
  for _ = 1, MOST do
    if at == access.zero then
      return
    end
    local node = at - link
    add(list, access.word(m, node + frame), access.word(m, node + ret))
    at = access.word(m, at)
  end
end

--- What tracing puts in the place of return addresses, and which of a task's it has replaced: as much as can
--- be read, since a backtrace is of use without.
---@param k ktstr.Kernel
---@param task ktstr.Object|nil
---@return ffi.cdata* trampolines uint64_t[]
---@return integer count
---@return ffi.cdata* returns struct unwind_return[]
---@return integer count
function traced.returns(k, task)
  local trampolines, list = {}, {}
  for _, name in ipairs(TRAMPOLINES) do
    trampolines[#trampolines + 1] = access.has_symbol(k, name) and access.symbol(k, name) or nil
  end
  if task then
    local m = access.memory(k)
    memory.try(add_graph, list, k, m, task)
    memory.try(add_probes, list, k, m, task)
  end
  local returns = Returns(#list)
  for i, one in ipairs(list) do
    returns[i - 1].at, returns[i - 1].address = one[1], one[2]
  end
  return Words(#trampolines, trampolines), #trampolines, returns, #list
end

return traced
