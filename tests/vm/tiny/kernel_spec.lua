-- Kernels and hosts that cannot be: one line, status 2.
local core = require "ktstr.core"
local kernels = require "ktstr.kernels"
local process = require "ktstr.process"
local support = require "tests.vm.support"

local function refused(r, text)
  assert.same({ 2, "" }, { r.status, r.stdout })
  local line = r.stderr:match "^([^\n]*)\n$"
  assert.is_truthy(line, r.stderr)
  assert.is_truthy(line:find(text, 1, true), line)
end

local function boot(path)
  return support.script(([[ require("ktstr").boot { kernel = "%s" } ]]):format(path), finally)
end

-- A cached bzImage, changed.
local function spoilt(change)
  local found, kernel = pcall(kernels.resolve)
  if not found then
    pending "no kernel is cached"
    error(kernel, 0)
  end
  local file = assert(io.open(kernel.bzimage, "rb"))
  local image = file:read "*a"
  file:close()
  return support.temporary_file(change(image), finally)
end

local function replace(image, offset, bytes)
  return image:sub(1, offset) .. bytes .. image:sub(offset + #bytes + 1)
end

describe("a bzImage", function()
  it("that is truncated is refused", function()
    for _, share in ipairs { 0.999, 0.5, 0.01 } do
      local path = spoilt(function(image)
        return image:sub(1, math.floor(#image * share))
      end)
      refused(boot(path), path)
    end
  end)

  it("with a flipped bit in its compressed payload is refused", function()
    local path = spoilt(function(image)
      local middle = math.floor(#image / 2)
      local byte = image:byte(middle + 1)
      return replace(image, middle, string.char(byte % 2 == 0 and byte + 1 or byte - 1))
    end)
    refused(boot(path), path)
  end)

  it("of another architecture is refused", function()
    -- The header of an arm64 Image.
    local header = "MZ" .. ("\0"):rep(54) .. "ARM\100" .. ("\0"):rep(4096)
    local path = support.temporary_file(header, finally)
    local r = boot(path)
    refused(r, path)
    assert.matches("arm64", r.stderr)
  end)
end)

describe("a host", function()
  it("without /dev/kvm is told what to do", function()
    local script = support.temporary_file([[ require("ktstr").boot { kernel = ... } ]], finally)
    local hide = "mount -t tmpfs none /mnt && touch /mnt/null && mount --bind /dev/null /mnt/null"
      .. " && mount --move /mnt /dev || exit 99; exec \"$@\""
    local r = process.run { "unshare", "--mount", "sh", "-c", hide, "sh", support.program, "script", script,
      support.tiny_kernel }
    if r.status == 99 or r.stderr:find "unshare" then
      pending "only root can hide /dev/kvm"
    end
    refused(r, "/dev/kvm")
    assert.matches("scripts/with-kvm", r.stderr, 1, true)
    r = process.run { "unshare", "--mount", "sh", "-c", hide, "sh", support.program, "doctor" }
    assert.equals(1, r.status)
    assert.matches("/dev/kvm is missing", r.stdout)
  end)

  it("whose KVM cannot run stock kernels says so at once", function()
    if core.doctor().stock_kernel then
      pending "this KVM can"
    elseif not pcall(kernels.resolve) then
      pending "no kernel is cached"
    end
    refused(support.script([[ require("ktstr").boot() ]], finally), "scripts/with-kvm")
  end)

  it("is probed quietly, too", function()
    local r = support.ktstr("doctor", "--quiet")
    assert.same({ core.doctor().stock_kernel and 0 or 1, "", "" }, { r.status, r.stdout, r.stderr })
    local json = require("dkjson").decode(support.ktstr("doctor", "--json").stdout)
    assert.equals(core.doctor().stock_kernel, json.stock_kernel)
    assert.is_true(#json.findings > 0)
  end)
end)
