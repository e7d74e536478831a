-- Loads the library over a fake core. Each spec file gets its own copy: busted undoes it at the file's end.
local fake_core = require "tests.lua.fake_core"

local support = {}

local function forget_library()
  for name in pairs(package.loaded) do
    if name:match "^ktstr%f[%z.]" then
      package.loaded[name] = nil
    end
  end
end

--- A fake core, and a function that requires a module of the library over it.
---@return table core, fun(name: string): any
function support.library()
  forget_library()
  local core = fake_core.new()
  package.loaded["ktstr.core"] = core
  package.loaded["ktstr.kernels"] = {
    resolve = function(spec)
      core.asked_kernel = spec
      return { path = "/fake/vmlinux", release = "7.3.4-fake", modules = core.modules }
    end,
  }
  local host = require "ktstr.host"
  host.now = function()
    return core.clock
  end
  local initramfs = require "ktstr.initramfs"
  initramfs.applets = function()
    return { "cat", "ls", "sh" }
  end
  local is_readable = host.is_readable
  host.is_readable = function(path)
    return path:match "^/fake/" ~= nil or is_readable(path)
  end
  -- A spec of warm machines asks for them.
  require("ktstr.warm").disable()
  core.paths = { guest = "/fake/guest" }
  return core, require
end

--- What f raises; fails when it raises nothing.
function support.raised(f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "nothing was raised")
  return e
end

return support
