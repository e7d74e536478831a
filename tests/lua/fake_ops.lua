-- A kernel made by hand whose machine carries out kernel operations: C reads and writes its memory as a
-- guest's.
local ffi = require "ffi"
local errors = require "ktstr.errors"
local fake_kernel = require "tests.lua.fake_kernel"

local C = ffi.C

local fake_ops = {}

local function array_of(ctype, bytes)
  local array = ffi.new(ctype .. "[?]", math.max(1, #bytes / ffi.sizeof(ctype)))
  ffi.copy(array, bytes, #bytes)
  return array, #bytes / ffi.sizeof(ctype)
end

-- What ktstr.machine does with a batch, here with the fake's memory.
local function run_ops(fake, layout, entries, steps, data, frozen)
  local batch = ffi.new "struct op_batch"
  local of_ops, of_steps, of_data, of_values
  ffi.copy(batch.layout, layout, #layout)
  of_ops, batch.count = array_of("struct op", entries)
  of_steps, batch.step_count = array_of("struct op_step", steps)
  of_data, batch.data_size = array_of("uint8_t", data)
  of_values = ffi.new("uint64_t[?]", batch.count + 1)
  batch.ops, batch.steps, batch.data, batch.values = of_ops, of_steps, of_data, of_values
  batch.frozen = frozen
  require("ktstr.kernel.c").check(C.op_batch_check(batch))
  C.op_batch_run(batch, fake.view)
  local ok, err = pcall(require("ktstr.kernel.c").check, batch.err)
  return ffi.string(of_values, 8 * batch.done), ffi.string(of_data, #data), not ok and err or nil
end

--- One whose machine runs. `cold` has of each batch whether it was; with `busy` none is.
function fake_ops.new(options)
  local fake = fake_kernel.new(options)
  local machine = fake.vm.machine
  fake.view.frozen = 0
  fake.cold = {}
  function machine.is_frozen()
    return fake.view.frozen == 1
  end
  function machine:run_ops(layout, entries, steps, data, cold)
    fake.cold[#fake.cold + 1] = cold or false
    if fake.busy and cold then
      error(errors.new("busy", "somebody else is freezing the machine"), 0)
    end
    return run_ops(fake, layout, entries, steps, data, cold or self:is_frozen())
  end
  fake.vm.k = fake.k
  fake.vm._check_alive = function() end
  fake.vm.channel = { pump = function() end }
  return fake
end

return fake_ops
