-- What the commands share that look into the machine's kernel: how they stop it, how an address is given and
-- written.
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"

local look = {}

--- Calls f(k) while the machine stands still: a running kernel changes what is walked, and the registers of a
--- CPU that runs are not to be had. A running machine is frozen for the moment.
---@param session ktstr.ReplSession
---@param f fun(k: ktstr.Kernel): string|nil
---@param before fun(k: ktstr.Kernel)|nil called before the machine is stopped: for what takes time
---@return string|nil
function look.still(session, f, before)
  local vm, k = session:machine(), session:kernel()
  k:symbols "_text" -- symbols and types are read before the machine is stopped, not meanwhile
  if before then
    before(k)
  end
  if vm:is_frozen() then
    return f(k)
  end
  return vm:frozen(function()
    return f(k)
  end)
end

--- An address as the crash utility writes it: 16 digits.
---@param where ktstr.Address|ktstr.Object|ffi.cdata*
---@return string
function look.hex(where)
  return bit.tohex(address.raw(where))
end

local DIGITS = 16

-- Digits as an address; nil where they are none.
local function number(text)
  local digits = text:gsub("^0[xX]", ""):match "^(%x+)[uUlL]*$"
  if digits and #digits <= DIGITS then
    return address.new(loadstring(("return 0x%sULL"):format(digits))())
  end
end

local function add(where, offset)
  if offset == "" then
    return where
  end
  local value = tonumber(offset) or tonumber(offset, 16)
  return value and where + value
end

--- The address that a word stands for: a symbol, or else digits of base 16, with or without 0x; then perhaps
--- "+0x10", or ":CPU" for a CPU's part of what is per-CPU. Raises "not-found", "ambiguous".
---@param k ktstr.Kernel
---@param word string
---@return ktstr.Address
function look.place(k, word)
  local rest, cpu = word:match "^(.+):(%d+)$"
  local base, offset = (rest or word):match "^([^%+]+)%+?(.*)$"
  local where
  if base and #k:symbols(base) > 0 then
    where = k:symbol(base)
  else
    where = base and number(base)
  end
  where = where and add(where, offset)
  if not where then
    local _, e = errors.try(k.symbol, k, base or word)
    errors.raise("not-found", ("'%s' is neither a symbol nor an address"):format(word),
      e.hint)
  end
  return cpu and k:per_cpu(where, tonumber(cpu)) or where
end

--- Calls f, which reads what lies at the place that a word stands for.
---@param word string
---@param f fun(): string
---@return string
function look.reading(word, f)
  local ok, text = pcall(f)
  if not ok then
    if errors.is(text, "per-cpu") then
      text.hint = ("%s:0 is CPU 0's"):format(word)
    end
    error(text, 0)
  end
  return text
end

--- A positive number that a word stands for; nothing for nothing.
---@param word string|nil
---@param most integer
---@param misused fun(wrong: string) raises
---@return integer|nil
function look.count(word, most, misused)
  if not word then
    return nil
  end
  local count = word:find "^%d+$" and tonumber(word)
  if not count or count < 1 or count > most then
    misused(("'%s' is no number from 1 to %d"):format(word, most))
  end
  return count
end

--- Rows as columns; numbers to the right.
---@param rows string[][] the first are the titles
---@param left table<integer, boolean> columns whose text begins at the left
---@return string
function look.columns(rows, left)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, #cell)
    end
  end
  local lines = {}
  for i, row in ipairs(rows) do
    local cells = {}
    for j, cell in ipairs(row) do
      cells[j] = ((left[j] and "%-" or "%") .. widths[j] .. "s"):format(cell)
    end
    lines[i] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

return look
