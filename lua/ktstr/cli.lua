-- The command line. main(argv) returns the exit status.
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local help = require "ktstr.help"
local nearest = require "ktstr.nearest"
local status = require "ktstr.status"

local cli = {}

local SIGNAL_STATUS = 128

local function wants_help(args)
  for _, argument in ipairs(args) do
    if argument == "--" then
      return false
    elseif argument == "--help" or argument == "-h" then
      return true
    end
  end
  return false
end

local function usage_error(message, hint)
  errors.refuse("invalid", message, hint)
end

local commands = {}

-- Options of `ktstr script` and `ktstr test`; they take no value.
local switches = {
  ["--repl-on-failure"] = function()
    require("ktstr.repl.failure").enable()
  end,
  ["--cold"] = function()
    require("ktstr.warm").disable()
  end,
}

-- What a script's own name and arguments come after.
local function count_switches(args)
  local count = 0
  while switches[args[count + 1]] do
    count = count + 1
  end
  return count
end

-- Does what switches among the first arguments say; returns the other arguments.
local function take_switches(args, last)
  local rest = {}
  for i, argument in ipairs(args) do
    if switches[argument] and i <= last then
      switches[argument]()
    else
      rest[#rest + 1] = argument
    end
  end
  return rest
end

function commands.script(args)
  args = take_switches(args, count_switches(args))
  local path = args[1]
  if not path then
    usage_error("ktstr script: which file?", "usage: ktstr script FILE [ARGS]")
  elseif path:sub(1, 1) == "-" and path ~= "-" then
    local known = { "--help" }
    for name in pairs(switches) do
      known[#known + 1] = name
    end
    usage_error(("ktstr script: unknown option '%s'"):format(path), nearest.hint(path, known))
  end
  return require("ktstr.script").run(path, { unpack(args, 2) })
end

function commands.test(args)
  -- Loaded before busted takes its snapshot: a second load of a file would make a second library.
  require "ktstr"()
  return require("ktstr.specs").run(take_switches(args, #args))
end

function commands.repl(args)
  return require("ktstr.repl").main(args)
end

function commands.doctor(args)
  local modes = { ["--quiet"] = "quiet", ["-q"] = "quiet", ["--json"] = "json" }
  local mode = "text"
  for _, argument in ipairs(args) do
    mode = modes[argument]
    if not mode then
      usage_error(("ktstr doctor: unknown option '%s'"):format(argument),
        nearest.hint(argument, { "--quiet", "--json", "--help" }))
    end
  end
  return require("ktstr.doctor").main(mode)
end

function commands.kernel(args)
  return require("ktstr.kernels").main(args)
end

function commands.warm(args)
  return require("ktstr.warm.command"):main(args)
end

function commands.version(args)
  if args[1] then
    usage_error(("ktstr version: '%s' is not expected"):format(args[1]), "usage: ktstr version")
  end
  print("ktstr " .. core.version)
  return status.PASSED
end

-- Those that have commands of their own.
local has_own_help = { kernel = true, warm = true }

local function command_names()
  local names = {}
  for name in pairs(commands) do
    names[#names + 1] = name
  end
  return names
end

local function print_help(name)
  if not name then
    io.stdout:write(help.general)
  elseif has_own_help[name] then
    return commands[name] { "--help" }
  elseif not help.commands[name] then
    usage_error(("ktstr help: there is no command '%s'"):format(name), nearest.hint(name, command_names()))
  else
    io.stdout:write(help.commands[name])
    if name == "test" then
      io.stdout:write(require("ktstr.specs").options_help() or "  (busted is not installed)", "\n")
    end
  end
  return status.PASSED
end

function commands.help(args)
  return print_help(args[1])
end

local aliases = { ["--version"] = "version", ["-V"] = "version", ["--help"] = "help", ["-h"] = "help" }

local function dispatch(argv)
  local name = argv[1]
  if not name then
    io.stderr:write(help.general)
    return status.CANNOT_RUN
  end
  local args = { unpack(argv, 2) }
  name = aliases[name] or name
  if not commands[name] then
    usage_error(("ktstr: unknown %s '%s'"):format(name:sub(1, 1) == "-" and "option" or "command", name),
      nearest.hint(name, command_names()))
  end
  -- A script's own arguments are the script's.
  local own = name == "script" and { unpack(args, 1, count_switches(args) + 1) } or args
  if not has_own_help[name] and wants_help(own) then
    return print_help(name)
  end
  return commands[name](args)
end

-- Where it was raised is of use for faults of a script, not for bad input.
local function catch(e)
  local failure = package.loaded["ktstr.repl.failure"]
  if failure then
    e = failure.stop_at_error(e)
  end
  if errors.is(e) and (e.cannot_run or e.code == "interrupted") then
    return { raised = e }
  end
  return { raised = e, traceback = debug.traceback("", 2):gsub("^%s*\n", "") }
end

local function report_error(caught)
  local e = caught.raised
  local text = tostring(e)
  if not text:find "^ktstr" then
    text = "ktstr: " .. text
  end
  io.stderr:write(text, "\n")
  if caught.traceback then
    io.stderr:write(caught.traceback, "\n")
  end
end

--- Runs a command. Machines that a script left running are ended, whatever happened.
---@param argv string[]
---@return integer exit status
function cli.main(argv)
  local ok, result = xpcall(dispatch, catch, argv)
  local vm = package.loaded["ktstr.vm"]
  if vm then
    vm.close_all()
  end
  local signal = core.interrupted()
  if signal then
    return SIGNAL_STATUS + signal
  end
  if not ok then
    report_error(result)
    return status.of_error(result.raised)
  end
  return result
end

return cli
