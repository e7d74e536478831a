-- Captures without a coordinator: the plan's program, run at once over a kernel that stands still (a core
-- file's, or one of a frozen machine).
local ffi = require "ffi"
local c = require "ktstr.kernel.c"
local errors = require "ktstr.errors"

local C = ffi.C

local native = {}

--- Compiles a program for C. Raises "format".
---@param bytes string
---@return ffi.cdata* struct plan *
function native.plan(bytes)
  local ret = ffi.new "struct plan *[1]"
  c.check(C.plan_create(bytes, #bytes, ret))
  return ffi.gc(ret[0], C.plan_put)
end

--- What a plan records of a kernel as it stands. Raises "running".
---@param k ktstr.Kernel
---@param plan ffi.cdata* struct plan *
---@param expected number|nil bytes that it will have, to be ready for them
---@return ffi.cdata* struct record *
function native.run(k, plan, expected)
  if k._view.frozen == 0 then
    errors.raise("running", "a kernel that runs cannot be recorded", "vm:freeze() first, or vm:capture(name)")
  end
  local run, record = ffi.new "struct plan_run *[1]", ffi.new "struct record *[1]"
  c.check(C.plan_run_create(plan, expected or 0, run))
  C.plan_run_execute(run[0], k._view)
  c.check(C.plan_run_finish(run[0], record))
  return ffi.gc(record[0], C.record_put)
end

return native
