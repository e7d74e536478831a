-- Saved machines in a script's hands: vm:save(), image:boot().
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local initramfs = require "ktstr.initramfs"
local options = require "ktstr.options"
local restore = require "ktstr.restore"
local start = require "ktstr.start"

---@class ktstr.Image a machine as it stood when it was saved; it never changes
---@field path string|nil the directory that it is in; nil: it has none, and goes with the last who holds it
local Image = {}
Image.__index = Image

local image = {}

---@param handle ktstr.core.image
---@param path string|nil
---@return ktstr.Image
function image.wrap(handle, path)
  return setmetatable({ handle = handle, path = path }, Image)
end

--- A machine that vm:save(path) has saved. Raises "not-found", "format" when it is damaged.
---   local image = ktstr.image "/var/tmp/booted"
---@param path string
---@return ktstr.Image
function image.open(path)
  return errors.preparing(function()
    return image.wrap(core.image_open(path), path)
  end)
end

local function rules()
  local all = {}
  for name, rule in pairs(require("ktstr.boot").rules) do
    all[name] = rule
  end
  all.warm = nil
  return all
end

local function run(self, given)
  local session, files = errors.preparing(function()
    options.check("image:boot", given, rules())
    restore.check(self.handle, given)
    local session = start.session(given)
    if session.capture then
      restore.check_captures(self.handle, session.capture)
    end
    return session, initramfs.files(given.files)
  end)
  local vm = restore.restore(self.handle, session)
  start.finish(vm, function()
    start.deliver(vm, files)
  end)
  return vm
end

--- Starts a machine that goes on where the saved one stood, as often as wanted, also at the same time: memory
--- is shared until it is written. Its random numbers are its own, its clock is right, its timeout begins
--- anew. Programs that ran in the saved machine run in this one, and nobody here has a handle on them.
--- Options as ktstr.boot. timeout, freeze_limit, console, capture, vmlinux and files are this machine's own;
--- any of the others has to be what the saved machine has: raises "unsupported" with the difference
--- otherwise, also for another ktstr or another host's CPU. Raises "ended", "timeout".
---@param given ktstr.BootOptions|nil
---@return ktstr.VM
function Image:boot(given)
  return start.interpreted(function()
    return run(self, given or {})
  end)
end

--- Gives it a name: a directory that is there afterwards, complete. Raises "busy" when there is something of
--- that name, "os" when it cannot be written.
---@param path string
function Image:save(path)
  path = path:gsub("(.)/+$", "%1")
  self.handle:publish(path)
  self.path = self.path or path
end

--- Reads all of its memory; raises "format" when it is damaged.
function Image:verify()
  self.handle:verify()
end

--- Bytes on disk, or in memory where it has no name.
---@return number
function Image:size()
  return self.handle:disk_size()
end

--- Gives it back now rather than when the collector comes. Machines started from it go on.
function Image:close()
  self.handle:close()
end

return image
