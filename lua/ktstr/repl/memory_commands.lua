-- Commands about symbols, types and memory, as the crash utility has them: sym, struct, rd, dis; mod, dmesg.
local address = require "ktstr.kernel.address"
local commands = require "ktstr.repl.commands"
local errors = require "ktstr.errors"
local source_lines = require "ktstr.kernel.lines"
local look = require "ktstr.repl.look"
local members = require "ktstr.repl.members"

local function misused(name)
  return function(wrong)
    commands.misused(name, wrong)
  end
end

-- --- sym ---

local function symbol_line(k, where, kind, name)
  local source = source_lines.beside(k, address.raw(where))
  return ("%s (%s) %s%s"):format(look.hex(where), kind, name, source and "  " .. tostring(source) or "")
end

-- Of the name that an address has: the letter.
local function kind_of(k, name)
  local symbol = k:symbols(name:match "^[^%+%s]+")[1]
  return symbol and symbol.kind or "?"
end

local function sym(k, word)
  local lines = {}
  for _, symbol in ipairs(k:symbols(word)) do
    lines[#lines + 1] = symbol_line(k, symbol.address, symbol.kind, symbol.name)
  end
  if #lines > 0 then
    return table.concat(lines, "\n")
  end
  local where = look.place(k, word)
  local name = k:name(where)
  if not name then
    errors.raise("not-found", ("no symbol is at %s"):format(look.hex(where)))
  end
  return symbol_line(k, where, kind_of(k, name), name)
end

commands.add {
  name = "sym",
  arguments = "NAME|ADDR",
  help = "where a symbol is (all of that name), or what is at an address",
  least = 1,
  most = 1,
  words = true,
  completes = { "symbol" },
  run = function(session, word)
    return sym(session:kernel(), word)
  end,
}

-- --- struct ---

local KEYWORDS = { "struct ", "union ", "", "enum " }

-- A type by its name without the keyword.
local function type_of(k, name)
  local first
  for _, keyword in ipairs(KEYWORDS) do
    local ok, found = pcall(function()
      return k.types[keyword .. name]
    end)
    if ok then
      return found
    elseif not errors.is(found, "not-found") then
      error(found, 0)
    end
    first = first or found
  end
  error(first, 0)
end

commands.add {
  name = "struct",
  arguments = "NAME[.MEMBER,...] [ADDR]",
  help = "a type's definition with offsets, or what is at an address as that type",
  details = [[
NAME is a struct's, union's or enum's, or a typedef's: struct rq, struct task_struct.pid,comm. ADDR is a
symbol or an address (base 16), and may have an offset (jiffies_64+0x8) or be a CPU's (runqueues:0).]],
  least = 1,
  most = 2,
  words = true,
  completes = { "struct", "symbol" },
  run = function(session, word, where)
    local name, names = word:match "^([^%.]+)%.?(.*)$"
    if not name then
      commands.misused "struct"
    end
    if not where then
      local type = type_of(session:kernel(), name)
      return names ~= "" and members.offsets(type, names) or tostring(type)
    end
    return look.still(session, function(k)
      local object = k:object(type_of(k, name), look.place(k, where))
      return look.reading(where, function()
        return names ~= "" and members.values(object, names) or tostring(object)
      end)
    end)
  end,
}

-- --- rd ---

local WORD, A_LINE, WORDS_MAX = 8, 2, 2 ^ 16

local function word_of(bytes)
  return bytes:reverse():gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end)
end

local function memory_lines(where, bytes)
  local lines = {}
  for at = 1, #bytes, WORD * A_LINE do
    local piece = bytes:sub(at, at + WORD * A_LINE - 1)
    local words = {}
    for i = 1, #piece, WORD do
      words[#words + 1] = (word_of(piece:sub(i, i + WORD - 1)))
    end
    lines[#lines + 1] = ("%s:  %-33s   %s"):format(look.hex(where + (at - 1)), table.concat(words, " "),
      (piece:gsub("[^\32-\126]", ".")))
  end
  return table.concat(lines, "\n")
end

commands.add {
  name = "rd",
  arguments = "ADDR [N]",
  help = "N (1) words of memory, of 64 bits",
  details = "ADDR as `help struct` has it.",
  least = 1,
  most = 2,
  words = true,
  completes = { "symbol" },
  run = function(session, word, count)
    count = look.count(count, WORDS_MAX, misused "rd") or 1
    local k = session:kernel()
    local where = look.place(k, word)
    return look.reading(word, function()
      return memory_lines(where, k:read(where, count * WORD))
    end)
  end,
}

-- --- dis ---

local LINES, AT_ONCE, FUNCTION_MAX, COUNT_MAX = 10, 64, 4000, 10000

local function function_of(instruction)
  return instruction.name and instruction.name:match "^[^%+]+"
end

-- Instructions up to where another function begins.
local function whole_function(k, where)
  local list = k:disassemble(where, 1)
  local own = list[1] and function_of(list[1])
  while own and #list < FUNCTION_MAX do
    local last = list[#list]
    for _, one in ipairs(k:disassemble(last.address + last.length, AT_ONCE)) do
      if function_of(one) ~= own then
        return list
      end
      list[#list + 1] = one
    end
    if list[#list] == last then
      return list
    end
  end
  return list
end

commands.add {
  name = "dis",
  arguments = "ADDR|SYMBOL [N]",
  help = ("instructions: N, all of a function, or %d from an address on"):format(LINES),
  least = 1,
  most = 2,
  words = true,
  completes = { "code" },
  run = function(session, word, count)
    count = look.count(count, COUNT_MAX, misused "dis")
    local k = session:kernel()
    local where = look.place(k, word)
    local is_function = not count and #k:symbols(word) > 0
    return tostring(is_function and whole_function(k, where) or k:disassemble(where, count or LINES))
  end,
}

-- --- mod ---

-- Where a module lies, and how large it is: in pieces from 6.4 on.
local function extent(module)
  if not module:has_ "mem" then
    return module.core_layout.base, module.core_layout.size
  end
  local size = 0
  for i = 0, #module.mem - 1 do
    size = size + module.mem[i].size
  end
  return module.mem[0].base, size
end

commands.add {
  name = "mod",
  arguments = "",
  help = "the modules that are loaded",
  most = 0,
  run = function(session)
    return look.still(session, function(k)
      local rows = { { "MODULE", "NAME", "TEXT_BASE", "SIZE" } }
      for module in k:modules() do
        local base, size = extent(module)
        rows[#rows + 1] = { look.hex(module), module.name, look.hex(address.raw(base)), tostring(size) }
      end
      return look.columns(rows, { true, true, true })
    end)
  end,
}

-- --- dmesg ---

local MESSAGES_MAX = 2 ^ 20

commands.add {
  name = "dmesg",
  arguments = "[N]",
  help = "the kernel's log, or its last N lines",
  most = 1,
  words = true,
  run = function(session, count)
    count = look.count(count, MESSAGES_MAX, misused "dmesg")
    local text = look.still(session, function(k)
      return k:dmesg()
    end)
    local lines = {}
    for line in text:gmatch "[^\n]+" do
      lines[#lines + 1] = line
    end
    return table.concat(lines, "\n", count and math.max(1, #lines - count + 1) or 1)
  end,
}
