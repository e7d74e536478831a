-- Puts a machine together from a table, starts it, and waits for the guest's agent; or takes a saved one.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local host = require "ktstr.host"
local initramfs = require "ktstr.initramfs"
local options = require "ktstr.options"
local plan = require "ktstr.plan"
local start = require "ktstr.start"
local warm = require "ktstr.warm"

local boot = {}

local DOUBT_S = 2 -- of silence, then the host is looked at

---@class ktstr.BootOptions
---@field kernel string|nil a cached version or its prefix by component ("7.3"), a bzImage, a vmlinux, a
---  build tree; nil: $KTSTR_KERNEL, or else the highest version in the cache
---@field vmlinux string|nil the kernel's vmlinux with DWARF, for source lines (k:line); nil: $KTSTR_VMLINUX,
---  else one that is found where builds and debug packages put it
---@field topology string|table|nil "1n2l4c2t", a preset's name or a table (ktstr.topology); nil: 1n1l2c1t
---@field memory string|number|nil "768M"; nil: the largest of 64 MiB a CPU, 256 MiB, and what the
---  initramfs needs
---@field cmdline string|nil appended to ktstr's own
---@field files table|nil host paths (or ["/guest/path"] = "host/path") put in, with their libraries
---@field modules string[]|nil kernel modules loaded by name, with what they depend on
---@field timeout number|false|nil seconds of wall time before the run is killed; nil: 60, and 240 in the
---  emulated helper machine; false: never
---@field freeze_limit number|nil seconds that a function may keep the machine frozen (vm:frozen); nil: 60
---@field console string|fun(line: string)|nil nil: kept, shown on failure; a path to write it to; or a
---  function called for each line, at the next wait
---@field capture ktstr.CapturePlan|table|nil what captures record beside what they always do (ktstr.plan);
---  checked against the kernel's types before the machine is made
---@field la57 boolean|nil 5-level paging
---@field steal_time boolean|nil show the guest the time that the host took from it; nil: true
---@field invariant_tsc boolean|nil true: show the guest an invariant TSC, which its kernel then takes for its
---  clock, even where the host has none; false: hide it, and the kernel takes kvmclock; nil: as the host
---  has it
---@field warm boolean|nil start from a saved machine where there is one, and save it where there is none: see
---  docs/warm.md; nil: true, unless --cold or KTSTR_WARM=0 says otherwise. false: boot afresh, save nothing

---@type table<string, ktstr.OptionRule>
boot.rules = {
  kernel = { "string" },
  vmlinux = { "string" },
  topology = { "string|table" },
  memory = { "string|number" },
  cmdline = { "string" },
  files = { "table" },
  modules = { "list" },
  scheduler = { "any", unsupported = "sched_ext schedulers are not part of this version" },
  timeout = { "number|boolean", above = 0, max = 7 * 24 * 3600 },
  freeze_limit = { "number", above = 0, max = 24 * 3600 },
  console = { "string|function" },
  capture = { "table" },
  la57 = { "boolean" },
  steal_time = { "boolean" },
  invariant_tsc = { "boolean" },
  warm = { "boolean" },
}

-- A guest that says nothing on a KVM that cannot run it is the host's lack, not the guest's. The probe runs
-- only when there is doubt: a machine that starts well does not wait for it.
local function blame_host(console)
  if console == "" and not core.doctor().stock_kernel then
    errors.refuse("unsupported", "the KVM of this host cannot run a stock kernel",
      "see 'ktstr doctor', or " .. host.helper_hint)
  end
end

local function wait_ready(self)
  if not self:_wait_ready(not start.in_helper and DOUBT_S or nil) then
    blame_host(self:console())
    self:_wait_ready()
  end
end

local function load_modules(self, paths)
  local attributes = {}
  for i, path in ipairs(paths) do
    attributes[i] = { "PATH", path }
  end
  if #paths > 0 then
    self:_request(core.wire.OP_LOAD_MODULES, core.wire.pack(attributes), "load its modules")
  end
end

-- --- afresh ---

local function fresh(p, session, files)
  local self = errors.preparing(start.machine, session, function(timeout)
    return core.machine(plan.machine(p, timeout, initramfs.pack(p.parts, files)))
  end, { topology = p.topology, plan = p })
  local ok, e = pcall(start.finish, self, function()
    wait_ready(self)
    load_modules(self, p.module_paths)
  end)
  if not ok then
    if errors.is(e, "ended") then
      blame_host(e.result.console)
    end
    error(e, 0)
  end
  return self
end

-- --- from the cache, or for it ---

-- What says that the saved machine is of no use, rather than that the run is over. One that does not wake up
-- in a run's time is of no use either, but leaves none for another.
local USELESS = { format = true, unsupported = true, ended = true, guest = true }

local function restored(cache, identity, session)
  local found, entry = cache.find(identity)
  if not found then
    return nil
  end
  local ok, result = pcall(require("ktstr.restore").restore, found, session)
  found:close()
  if ok then
    return result
  end
  if errors.is(result) and (USELESS[result.code] or result.code == "timeout") then
    cache.discard(entry, result)
  end
  if errors.is(result, "os") then
    cache.pass_over(entry, result)
  elseif not errors.is(result) or not USELESS[result.code] then
    error(result, 0)
  end
end

-- A run goes on when its machine cannot be saved; not when the machine itself has failed.
local function keep(cache, identity, self)
  local ok, e = pcall(function()
    local image = self:_image(cache.directory())
    cache.store(identity, image)
    image:close()
  end)
  if not ok and (errors.is(e, "interrupted") or self.channel.ended) then
    error(e, 0)
  elseif not ok then
    cache.give_up(e)
  end
end

-- The files are no part of what is kept: the same machine serves tests with other files.
local function warmed(p, session)
  local cache = require "ktstr.warm.cache"
  local identity = errors.preparing(plan.identity, p)
  local self = restored(cache, identity, session)
  if not self then
    self = fresh(p, session, {})
    start.finish(self, function()
      keep(cache, identity, self)
    end)
  end
  start.finish(self, function()
    start.deliver(self, p.files)
  end)
  return self
end

-- What goes wrong here is bad input or a lack of this host.
local function prepare(given)
  options.check("ktstr.boot", given, boot.rules)
  local p, session = plan.of(given), start.session(given)
  if given.capture then
    require("ktstr.capture.plan").check(session.capture, require("ktstr.kernel.image").open(p.kernel.path),
      p.topology)
  end
  return p, session
end

local function run(given)
  local p, session = errors.preparing(prepare, given)
  local wanted = given.warm
  if wanted == nil then
    wanted = errors.preparing(warm.enabled)
  end
  if wanted then
    return warmed(p, session)
  end
  return fresh(p, session, p.files)
end

--- Boots a machine; returns when the guest's agent is ready. Where a machine like it has been saved, that one
--- is taken instead, in milliseconds.
---   local vm = ktstr.boot { kernel = "7.3", topology = "1n2l4c2t" }
--- Raises "invalid", "not-found", "format", "unsupported" for bad input, before anything runs (exit status
--- 2); "ended" and "timeout", with the end of the console, when the guest failed.
---@param given ktstr.BootOptions|nil
---@return ktstr.VM
function boot.boot(given)
  return start.interpreted(function()
    return run(given or {})
  end)
end

return boot
