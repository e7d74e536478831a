-- Commands of a command: `ktstr kernel get`, `ktstr warm list`. Each has its own help and options.
local errors = require "ktstr.errors"

local subcommands = {}

---@class ktstr.Subcommands
---@field name string "kernel"
---@field help table<string, string> by command, and of all of them by `name`. A %s is where things are kept
---@field run table<string, fun(args: string[]): integer> by command; each returns the exit status
---@field directory fun(): string where things are kept
local Subcommands = {}
Subcommands.__index = Subcommands

---@param fields ktstr.Subcommands
---@return ktstr.Subcommands
function subcommands.new(fields)
  return setmetatable(fields, Subcommands)
end

--- Raises "invalid", with where to read more.
---@param name string the command, or this one's own name
---@param message string
function Subcommands:usage(name, message)
  local command = name == self.name and "" or name .. " "
  errors.refuse("invalid", message, ("see 'ktstr %s %s--help'"):format(self.name, command))
end

function Subcommands:_print_help(name)
  io.stdout:write((self.help[name]:gsub("%%s", function()
    return self.directory()
  end)))
  return 0
end

--- Splits arguments into words and options; `known` maps an option to whether it takes a value.
---@param name string
---@param args string[]
---@param known table<string, boolean>
---@return string[] words, table<string, string|boolean> options
function Subcommands:parse(name, args, known)
  local words, options = {}, {}
  local i, only_words = 1, false
  while i <= #args do
    local option, value = args[i]:match "^(%-%-[%a-]+)=?(.*)$"
    if only_words or args[i]:sub(1, 1) ~= "-" then
      words[#words + 1] = args[i]
    elseif args[i] == "--" then
      only_words = true
    elseif option and known[option] == true then
      if not args[i]:find("=", 1, true) then
        i = i + 1
        value = args[i] or self:usage(name, ("'%s' wants a value"):format(option))
      end
      options[option] = value
    elseif option and known[option] == false then
      options[option] = true
    else
      self:usage(name, ("unknown option '%s'"):format(args[i]))
    end
    i = i + 1
  end
  return words, options
end

local function wants_help(args)
  for _, arg in ipairs(args) do
    if arg == "--" then
      return false
    elseif arg == "--help" or arg == "-h" then
      return true
    end
  end
  return false
end

function Subcommands:_dispatch(args)
  local name = args[1]
  if name == nil or name == "--help" or name == "-h" or name == "help" then
    return self:_print_help(self.name)
  end
  local run = self.run[name]
  if not run then
    self:usage(self.name, ("unknown command '%s %s'"):format(self.name, name))
  end
  local rest = { unpack(args, 2) }
  if wants_help(rest) then
    return self:_print_help(name)
  end
  return run(rest)
end

--- Runs one. Raises what goes wrong as bad input: the program prints it and exits with 2.
---@param args string[]
---@return integer exit status
function Subcommands:main(args)
  return errors.preparing(self._dispatch, self, args)
end

return subcommands
