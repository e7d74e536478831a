-- `ktstr repl`: boots a machine and opens a prompt in front of it.
local errors = require "ktstr.errors"
local nearest = require "ktstr.nearest"
local script = require "ktstr.script"
local status = require "ktstr.status"

local repl = {}

local USAGE = "usage: ktstr repl [OPTIONS] [FILE] [ARGS]"

local function seconds(text)
  local value = tonumber(text)
  if not value then
    errors.refuse("invalid", ("ktstr repl: --timeout wants seconds, not '%s'"):format(text))
  end
  return value
end

local function as_it_is(text)
  return text
end

local values = {
  ["--kernel"] = { "kernel", as_it_is },
  ["--vmlinux"] = { "vmlinux", as_it_is },
  ["--topology"] = { "topology", as_it_is },
  ["--memory"] = { "memory", as_it_is },
  ["--cmdline"] = { "cmdline", as_it_is },
  ["--timeout"] = { "timeout", seconds },
}

local COLD = "--cold"

local function known_options()
  local names = { "--help", COLD }
  for name in pairs(values) do
    names[#names + 1] = name
  end
  return names
end

-- The option at args[i], with its value there or after it. Returns where the next one is.
local function take_option(given, args, i)
  local name, value = args[i]:match "^(%-%-[^=]+)=(.*)$"
  name = name or args[i]
  local option = values[name]
  if not option then
    errors.refuse("invalid", ("ktstr repl: unknown option '%s'"):format(name),
      nearest.hint(name, known_options()))
  end
  if not value then
    i = i + 1
    value = args[i]
  end
  if not value then
    errors.refuse("invalid", ("ktstr repl: option '%s' wants a value"):format(name), USAGE)
  end
  given[option[1]] = option[2](value)
  return i + 1
end

-- Options of the machine, and what follows them.
local function parse(args)
  -- A machine that somebody sits in front of has no limit but the one that was asked for.
  local given, i = { timeout = false }, 1
  while args[i] and args[i]:sub(1, 1) == "-" and args[i] ~= "--" do
    if args[i] == COLD then
      require("ktstr.warm").disable()
      i = i + 1
    else
      i = take_option(given, args, i)
    end
  end
  if args[i] == "--" then
    i = i + 1
  end
  return given, { unpack(args, i) }
end

local function boot(ktstr, given)
  local progress = require("ktstr.kernels.progress").new()
  progress:step(("booting %s"):format(given.kernel or "the default kernel"))
  local ok, vm = pcall(ktstr.boot, given)
  progress:done()
  if not ok then
    error(vm, 0)
  end
  return vm
end

--- The command. The machine's end is the caller's.
---@param args string[]
---@return integer exit status
function repl.main(args)
  local given, rest = parse(args)
  local path = rest[1]
  local first = path and script.load(path)
  local session = require "ktstr.repl.session"
  -- All of it: Tab shows what is there.
  local ktstr = require "ktstr"()
  local vm = boot(ktstr, given)
  _G.ktstr, _G.vm = ktstr, vm
  if path then
    script.set_up(path, { unpack(rest, 2) })
    first = require("ktstr.repl.evaluate").prepare(first, _G)
  end
  local terminal = session.has_terminal()
  if terminal then
    print(("kernel %s, topology %s (%d CPUs); 'help' lists commands, Ctrl-D ends the session"):format(
      vm.release, tostring(vm.topology), vm.topology.cpus))
  end
  local one = session.new(_G)
  one:run(first, unpack(rest, 2))
  return one.failed and not terminal and status.FAILED or status.PASSED
end

return repl
