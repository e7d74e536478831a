-- Saving a machine and taking it back: what vm:save(), vm:checkpoint() and vm:rewind() do.
local errors = require "ktstr.errors"
local freeze = require "ktstr.freeze"

local save = {}

-- Calls fn() while the machine stands still; leaves it as it was.
local function standing_still(vm, fn)
  if vm.machine:is_frozen() then
    return fn()
  end
  freeze.freeze(vm)
  local ok, result = pcall(fn)
  if vm.machine:is_frozen() then
    freeze.thaw(vm)
  end
  if not ok then
    error(result, 0)
  end
  return result
end

local function take(vm, directory)
  if not vm.plan then
    errors.raise("unsupported", "this machine was not made by ktstr.boot, so nothing says what it is")
  end
  local plan, restore = require "ktstr.plan", require "ktstr.restore"
  return vm.machine:save(plan.identity(vm.plan), restore.script(vm), directory)
end

---@param vm ktstr.VM
---@param directory string|nil where its memory takes its room; nil: in memory
---@return ktstr.core.image
function save.image(vm, directory)
  vm:_check_alive "asked to be saved"
  return standing_still(vm, function()
    return take(vm, directory)
  end)
end

-- Where an image without a name is put: on disk where there is a place.
local function scratch()
  local ok, directory = errors.try(function()
    return require("ktstr.warm.cache").directory()
  end)
  return ok and directory or nil
end

---@param vm ktstr.VM
---@param path string|nil
---@return ktstr.Image
function save.save(vm, path)
  if path ~= nil and (type(path) ~= "string" or path == "") then
    errors.refuse("invalid", ("vm:save wants the path of a directory to make, not %s"):format(tostring(path)))
  end
  -- Beside its place: so that it can be given its name without another copy.
  path = path and path:gsub("(.)/+$", "%1")
  local directory = path and (path:match "^(.*)/[^/]+$" or ".") or scratch()
  local image = require("ktstr.image").wrap(save.image(vm, directory ~= "" and directory or "/"))
  if path then
    image:save(path)
  end
  return image
end

---@class ktstr.Checkpoint
---@field image ktstr.core.image
---@field vm ktstr.VM

-- All that a frozen machine has said is heard: a rewind drops what was not. What there was no room for comes
-- in when there is, and has done so when the machine has answered.
local function hear_all(vm)
  repeat
    local heard = false
    while vm.channel:pump(0) do
      heard = true
    end
    vm.machine:regs(0)
  until not heard
end

---@param vm ktstr.VM
---@return ktstr.Checkpoint
function save.checkpoint(vm)
  vm:_check_alive "asked for a checkpoint"
  -- To Lua a checkpoint is small; those that nobody holds any more go now, with the memory that they keep.
  collectgarbage()
  local checkpoint = standing_still(vm, function()
    hear_all(vm)
    return { vm = vm, image = take(vm, scratch()), mark = vm.channel:mark() }
  end)
  vm.last_checkpoint = checkpoint
  return checkpoint
end

---@param vm ktstr.VM
---@param checkpoint ktstr.Checkpoint|nil
function save.rewind(vm, checkpoint)
  vm:_check_alive "asked to be taken back"
  checkpoint = checkpoint or vm.last_checkpoint
  if type(checkpoint) ~= "table" or checkpoint.vm ~= vm then
    errors.refuse("invalid", checkpoint and "that is not a checkpoint of this machine"
      or "there is no checkpoint", "vm:checkpoint() takes one")
  end
  if not vm.machine:is_frozen() then
    freeze.freeze(vm)
  end
  local ok, e = pcall(vm.machine.rewind, vm.machine, checkpoint.image)
  if not ok then
    error(errors.is(e, "ended") and vm:_ended_error "taken back" or e, 0)
  end
  vm.channel:go_back(checkpoint.mark)
end

return save
