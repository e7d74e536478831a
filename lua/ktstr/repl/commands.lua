-- The words that the prompt itself understands. A line is one when nothing else is on it but simple
-- arguments: a Lua variable of that name still works in any expression, and "=name" shows it.
local errors = require "ktstr.errors"
local options = require "ktstr.options"

local commands = {}

local CONSOLE_LINES = 20
local LINES_MAX = 100000

---@class ktstr.ReplCommand
---@field name string
---@field arguments string for the help: "[CPU [N]]"
---@field help string one line
---@field details string|nil more lines for `help NAME`
---@field least integer|nil arguments at least
---@field most integer arguments at most
---@field words boolean|nil they may be words; otherwise whole numbers
---@field completes string[]|nil what names its arguments are, as kernel_names.of() has them
---@field run fun(session: ktstr.ReplSession, ...): string|nil text to show

---@type ktstr.ReplCommand[]
commands.list = {}

local by_name = {}

--- Adds a command; help lists them in the order in which they were added.
---@param command ktstr.ReplCommand
function commands.add(command)
  commands.list[#commands.list + 1] = command
  by_name[command.name] = command
end

---@return string[]
function commands.names()
  local names = {}
  for i, command in ipairs(commands.list) do
    names[i] = command.name
  end
  return names
end

local function usage(command)
  return (command.name .. " " .. command.arguments):gsub("%s+$", "")
end

--- Raises that a command is used otherwise.
---@param name string
---@param wrong string|nil what is wrong
function commands.misused(name, wrong)
  local text = "usage: " .. usage(by_name[name])
  errors.raise("invalid", wrong and ("%s: %s"):format(name, wrong) or text, wrong and text or nil)
end

-- Words with nothing in them that makes an expression of them: names, numbers, options, paths of members,
-- "sched_init+0x10", "kworker/0:1".
local WORD = "^%-?[%w_][%w_%.%+%-/:,#%[%]]*$"

-- The arguments as the command wants them, or nil.
local function take_arguments(command, words)
  local taken = {}
  if #words > command.most or #words < (command.least or 0) then
    return nil
  end
  for i, word in ipairs(words) do
    taken[i] = command.words and word or word:find "^%d+$" and tonumber(word)
    if not taken[i] then
      return nil
    end
  end
  return taken
end

-- The command that a line begins with, and the words behind it; nothing when it is no such line.
local function split(line)
  local name, rest = line:match "^%s*(%a+)(.*)$"
  local command = name and by_name[name]
  if not command or rest:find "^%S" then
    return nil
  end
  local words = {}
  for word in rest:gmatch "%S+" do
    if not word:find(WORD) then
      return nil
    end
    words[#words + 1] = word
  end
  return command, words
end

-- Whether the line means something to Lua that is worth to be said: a variable of that name is there.
local function is_lua(line, name, env)
  if not loadstring("return " .. line) then
    return false
  end
  local ok, value = pcall(function()
    return env[name]
  end)
  return not ok or value ~= nil
end

--- Whether a line is a command: then the command and its arguments. Or what is wrong with one that can be
--- nothing else.
---@param line string
---@param env table the globals
---@return ktstr.ReplCommand|nil
---@return table|string|nil arguments, or the complaint
function commands.parse(line, env)
  local command, words = split(line)
  if not command then
    return nil
  end
  local arguments = take_arguments(command, words)
  if arguments then
    return command, arguments
  elseif not is_lua(line, command.name, env) then
    return nil, "usage: " .. usage(command)
  end
end

--- What names the argument at the end of a line may have, when the line is a command that has such.
---@param line string
---@return string|nil kind
---@return string prefix what is there of it
function commands.argument(line)
  local head, prefix = line:match "^(.-%s)(%S*)$"
  local command, words = split(head or "")
  return command and command.completes and command.completes[#words + 1], prefix
end

--- The guest writes what it likes; it shall not steer the terminal.
---@param text string
---@return string
function commands.harmless(text)
  return (text:gsub("\r", ""):gsub("[%z\1-\8\11-\31\127]", "?"))
end

commands.add {
  name = "freeze",
  arguments = "",
  help = "stop every vCPU; the guest's time stands still",
  most = 0,
  run = function(session)
    session:machine():freeze()
  end,
}

commands.add {
  name = "thaw",
  arguments = "",
  help = "let it go on",
  most = 0,
  run = function(session)
    session:machine():thaw()
  end,
}

commands.add {
  name = "regs",
  arguments = "[CPU]",
  help = "the registers of a vCPU (0), frozen only",
  most = 1,
  run = function(session, cpu)
    return tostring(session:machine():regs(cpu or 0))
  end,
}

local function hex(value)
  return type(value) == "cdata" and bit.tohex(value) or ("%016x"):format(value)
end

commands.add {
  name = "step",
  arguments = "[CPU [N]]",
  help = "execute N (1) instructions on a vCPU (0), frozen only",
  most = 2,
  run = function(session, cpu, n)
    local vm = session:machine()
    local executed = vm:step(cpu or 0, n or 1)
    return ("%d executed, rip %s"):format(executed, hex(vm:regs(cpu or 0).rip))
  end,
}

commands.add {
  name = "checkpoint",
  arguments = "",
  help = "remember how the machine stands",
  most = 0,
  run = function(session)
    session:machine():checkpoint()
  end,
}

commands.add {
  name = "rewind",
  arguments = "",
  help = "take it back to the last checkpoint; it is frozen then",
  most = 0,
  run = function(session)
    session:machine():rewind()
  end,
}

commands.add {
  name = "console",
  arguments = "[LINES]",
  help = ("the last lines (%d) of the kernel's console"):format(CONSOLE_LINES),
  most = 1,
  run = function(session, wanted)
    wanted = wanted or CONSOLE_LINES
    if wanted > LINES_MAX then
      errors.raise("invalid", ("console: at most %d lines, not %s"):format(LINES_MAX, options.show(wanted)))
    end
    local lines = {}
    for line in commands.harmless(session:machine():console()):gmatch "[^\n]+" do
      lines[#lines + 1] = line
    end
    return table.concat(lines, "\n", math.max(1, #lines - wanted + 1))
  end,
}

local NOTES = [[
Anything else is Lua, with `vm` (the machine), `k` (its kernel, vm.k) and `ktstr` at hand. A bare expression,
or =expression, is shown. Locals end with their line: use globals. A line that is not complete goes on at the
next prompt. Commands that look into the kernel stop a running machine for as long as that takes.
Tab completes names, Ctrl-R searches the history, Ctrl-C ends what runs, Ctrl-D ends the session.]]

commands.add {
  name = "help",
  arguments = "[COMMAND]",
  help = "this",
  most = 1,
  words = true,
  run = function(_, name)
    if name and by_name[name] then
      local command = by_name[name]
      local text = ("%s: %s"):format(usage(command), command.help)
      return command.details and ("%s\n\n%s"):format(text, (command.details:gsub("%s+$", ""))) or text
    elseif name then
      errors.raise("not-found", ("help: there is no command '%s'"):format(name),
        require("ktstr.nearest").hint(name, commands.names()))
    end
    local lines = {}
    for _, command in ipairs(commands.list) do
      lines[#lines + 1] = ("  %-24s %s"):format(usage(command), command.help)
    end
    return table.concat(lines, "\n") .. "\n\n" .. NOTES
  end,
}

commands.add {
  name = "quit",
  arguments = "",
  help = "end the session, as Ctrl-D does",
  most = 0,
  run = function(session)
    session.over = true
  end,
}

return commands
