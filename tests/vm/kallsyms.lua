-- A guest's own /proc/kallsyms beside what ktstr says of the same kernel.
--
-- The image's symbols are 200,000 lines, which would take longer on their way out of the guest than all the
-- rest: their text is compared by its sum, and read only when that differs.
local ffi = require "ffi"
local core = require "ktstr.core"
local kernel_view = require "tests.vm.kernel_view"
local live = require "ktstr.kernel.live"

local C = ffi.C

local kallsyms = {}

local COPY = "/tmp/kallsyms" -- in the guest: /proc makes it anew for each piece that is read
local BUSYBOX = core.paths.guest .. "/busybox"

local texts = setmetatable({}, { __mode = "k" })

local PIECE = 65536
local LINE_MAX = 1024
local HEX = ffi.new("uint8_t[16]", { ("0123456789abcdef"):byte(1, 16) })

-- Writes a symbol's line, and returns where it ends. By bytes: this is compiled, and makes no strings.
local function put_line(buffer, at, symbol, slide)
  local value = symbol.moves and symbol.address + slide or symbol.address
  for i = at + 15, at, -1 do
    buffer[i] = HEX[tonumber(bit.band(value, 15ULL))]
    value = bit.rshift(value, 4)
  end
  buffer[at + 16], buffer[at + 17], buffer[at + 18] = 32, symbol.kind, 32
  at = at + 19
  local name, length = symbol.name, 0
  while name[length] ~= 0 do
    buffer[at + length] = name[length]
    length = length + 1
  end
  buffer[at + length] = 10
  return at + length + 1
end

-- What /proc/kallsyms has to say of a set of symbols that runs so many bytes higher than it is linked.
local function image_text(set, slide)
  local pieces, buffer, at = {}, ffi.new("uint8_t[?]", PIECE), 0
  for i = 0, set:count() - 1 do
    if at > PIECE - LINE_MAX then
      pieces[#pieces + 1] = ffi.string(buffer, at)
      at = 0
    end
    at = put_line(buffer, at, C.symbols_get(set.handle, i), slide)
  end
  pieces[#pieces + 1] = ffi.string(buffer, at)
  return table.concat(pieces)
end

local function sum_of(text)
  local name = os.tmpname()
  local file = assert(io.open(name, "wb"))
  assert(file:write(text))
  assert(file:close())
  local pipe = assert(io.popen(("'%s' md5sum <%s"):format(BUSYBOX, name)))
  local sum = pipe:read "*a":match "^%x+"
  pipe:close()
  os.remove(name)
  return assert(sum)
end

---@class tests.ImageText
---@field text string
---@field sum string

--- The image's symbols as the guest prints them; made once for all machines that run a kernel at one place.
---@param k ktstr.Kernel
---@return tests.ImageText
function kallsyms.image(k)
  local set, slide = k:_ready().symbols, k._view.slide
  local known = texts[set]
  if not known or known.slide ~= slide then
    known = { slide = slide, text = image_text(set, slide) }
    known.sum = sum_of(known.text)
    texts[set] = known
  end
  return known
end

local function lines_of(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do
    list[#list + 1] = line
  end
  return list
end

-- Lines that only one of two lists has, however often.
local function differences(told, seen)
  local counts, list = {}, {}
  for _, line in ipairs(told) do
    counts[line] = (counts[line] or 0) + 1
  end
  for _, line in ipairs(seen) do
    counts[line] = (counts[line] or 0) - 1
  end
  for line, count in pairs(counts) do
    if count ~= 0 then
      list[#list + 1] = (count > 0 and "only the guest has " or "only we have ") .. line
    end
  end
  table.sort(list)
  return { unpack(list, 1, 30) }
end

-- What of the image's symbols is different from ours, by the sum of the guest's: an empty list.
local function compare_image(guest, sum)
  local image = kallsyms.image(guest.k)
  if sum == image.sum then
    return {}
  end
  guest:sh("cat /proc/kallsyms >" .. COPY)
  local told = {}
  for _, line in ipairs(lines_of(guest.vm:read(COPY))) do
    if not line:find("\t", 1, true) then
      told[#told + 1] = line
    end
  end
  local wrong = differences(told, lines_of(image.text))
  return #wrong > 0 and wrong or { "the image's symbols are in another order" }
end

---@class tests.Symbol
---@field place ffi.cdata* its address
---@field kind string
---@field name string
---@field module string

-- What the guest prints behind the image's symbols, and what of that is different from ours.
local function compare_live(guest, text)
  local told, lines, seen = {}, {}, {}
  for i, line in ipairs(lines_of(text)) do
    local digits, kind, name, module = line:match "^(%x+) (%a) (.-)\t%[(.*)%]$"
    if not digits then
      return {}, { "the guest's are not where ours end: " .. line }
    end
    told[i] = { place = kernel_view.hex(digits), kind = kind, name = name, module = module }
    -- What a module exports is in upper case there.
    lines[i] = ("%s %s %s [%s]"):format(digits, kind:lower(), name, module)
  end
  for i, symbol in ipairs(live.symbols(guest.k).list) do
    seen[i] = ("%s %s %s [%s]"):format(bit.tohex(symbol.address), symbol.kind, symbol.name, symbol.module)
  end
  return told, differences(lines, seen)
end

--- What the guest prints behind the image's symbols; and what of that is different from ours: an empty list.
---@param guest tests.KernelGuest
---@return tests.Symbol[] told, string[] wrong
function kallsyms.compare_live(guest)
  local behind = #kallsyms.image(guest.k).text + 1
  return compare_live(guest, guest:sh(("tail -c +%d /proc/kallsyms"):format(behind)))
end

local SUM, BEHIND_SUM = 32, 4 -- as md5sum prints it: "0123...  -\n"

--- The same; and what of the image's symbols is different, too. All of one reading.
---@param guest tests.KernelGuest
---@return tests.Symbol[] told, string[] wrong
function kallsyms.compare(guest)
  local size = #kallsyms.image(guest.k).text
  local text = guest:sh(("cat /proc/kallsyms >%s; tail -c +%d %s; truncate -s %d %s; md5sum <%s"):format(COPY,
    size + 1, COPY, size, COPY, COPY))
  local wrong = compare_image(guest, text:sub(-SUM - BEHIND_SUM, -BEHIND_SUM - 1))
  if #wrong > 0 then
    return {}, wrong
  end
  return compare_live(guest, text:sub(1, -SUM - BEHIND_SUM - 1))
end

-- --- the image's text as a table that is looked up ---

---@class tests.ImageLine
---@field digits string the address; those of one length are in order
---@field kind string
---@field name string
---@field first integer where the line begins
---@field next integer where the next one does

--- The line that a byte of the text is in.
---@param text string
---@param at integer
---@return tests.ImageLine
function kallsyms.line_at(text, at)
  while at > 1 and text:byte(at - 1) ~= 10 do
    at = at - 1
  end
  local digits, kind, name, next = text:match("^(%x+) (%a) ([^\n]+)\n()", at)
  return { digits = digits, kind = kind, name = name, first = at, next = next }
end

--- All lines of the last address at or below one, those of symbols that KASLR does not move left out.
---@param text string
---@param digits string
---@return tests.ImageLine[] in their order
function kallsyms.lines_below(text, digits)
  local low, high = 1, #text -- of the first line above
  while low < high do
    local line = kallsyms.line_at(text, math.floor((low + high) / 2))
    if line.digits <= digits then
      low = line.next
    else
      high = line.first
    end
  end
  local lines = {}
  while low > 1 do
    local line = kallsyms.line_at(text, low - 1)
    if line.kind ~= "A" then
      if lines[1] and lines[1].digits ~= line.digits then
        break
      end
      table.insert(lines, 1, line)
    end
    low = line.first
  end
  return lines
end

return kallsyms
