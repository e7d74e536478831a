-- What the loop of the tiny guest's scenario `io` does, instruction by instruction (guest/tiny/io_loop.S):
-- from where it stopped and its counter follow every register, every byte of its buffer and of its console.
local bit = require "bit"
local ffi = require "ffi"
local tiny_guest = require "tests.vm.tiny_guest"

local band, bor, bnot, rshift = bit.band, bit.bor, bit.bnot, bit.rshift

local tiny_io = {}

local COM1, COM2 = 0x3f8ULL, 0x2f8ULL
local LOW_32, LOW_8 = 0xffffffffULL, 0xffULL
local BUFFER_SIZE = 32
local ENTRY_WORDS = 3

local function low32(v)
  return band(v, LOW_32)
end

local function with_al(rax, al)
  return bor(band(rax, bnot(LOW_8)), band(al, LOW_8))
end

-- Everything that a round depends on or changes.
local function new_state(entry, table_page)
  return {
    rax = 0ULL, rbx = 0ULL, rcx = 0ULL, rdx = 0ULL, rsi = 0ULL, rdi = 0ULL, r8 = 0ULL,
    r10 = COM1, r11 = COM2, r12 = entry, r13 = tiny_guest.address.io + 0ULL, r14 = table_page,
    r15 = tiny_guest.address.io_buffer + 0ULL,
    buffer = ffi.new("uint8_t[?]", BUFFER_SIZE),
    entry = ffi.new("uint32_t[?]", ENTRY_WORDS),
    first_entry = 0ULL,
    fifo = {},
    console = {},
    rounds = 0,
  }
end

local function load64(s, offset)
  return ffi.cast("uint64_t *", s.buffer + offset)[0]
end

local function store64(s, offset, v)
  ffi.cast("uint64_t *", s.buffer + offset)[0] = v
end

local function port_out(s, byte)
  local queue = s.rdx == COM1 and s.console or s.fifo
  queue[#queue + 1] = tonumber(band(byte, LOW_8))
end

local function port_in(s)
  return table.remove(s.fifo, 1) + 0ULL
end

-- 32-bit words, in the buffer or in the table's entry.
local function word_at(s, address)
  if address >= s.r12 and address < s.r12 + 4 * ENTRY_WORDS then
    return s.entry + tonumber(address - s.r12) / 4
  end
  return ffi.cast("uint32_t *", s.buffer + tonumber(address - s.r15))
end

local function outsb(s)
  port_out(s, s.buffer[tonumber(s.rsi - s.r15)] + 0ULL)
  s.rsi = s.rsi + 1
end

local function insb(s)
  s.buffer[tonumber(s.rdi - s.r15)] = tonumber(port_in(s))
  s.rdi = s.rdi + 1
end

local function movsl(s)
  word_at(s, s.rdi)[0] = word_at(s, s.rsi)[0]
  s.rsi = s.rsi + 4
  s.rdi = s.rdi + 4
end

local function compare() end -- and a jump that is never taken

-- One for each instruction, in order. A `rep` one is what it does rcx times.
local program = {
  { "incq %rbx", function(s) s.rbx = s.rbx + 1 end },
  { "movl %ebx, %eax", function(s) s.rax = low32(s.rbx) end },
  { "andl $31, %eax", function(s) s.rax = band(s.rax, 31ULL) end },
  { "orl $64, %eax", function(s) s.rax = bor(s.rax, 64ULL) end },
  { "movl %r10d, %edx", function(s) s.rdx = s.r10 end },
  { "outb %al, %dx", function(s) port_out(s, s.rax) end },

  { "movl %ebx, %eax", function(s) s.rax = low32(s.rbx) end },
  { "movl %r11d, %edx", function(s) s.rdx = s.r11 end },
  { "outb %al, %dx", function(s) port_out(s, s.rax) end },
  { "notl %eax", function(s) s.rax = low32(bnot(s.rax)) end },
  { "outb %al, %dx", function(s) port_out(s, s.rax) end },
  { "xorl %eax, %eax", function(s) s.rax = 0ULL end },
  { "inb %dx, %al", function(s) s.rax = with_al(s.rax, port_in(s)) end },
  { "cmpb %bl, %al", compare },
  { "jne", compare },
  { "inb %dx, %al", function(s) s.rax = with_al(s.rax, port_in(s)) end },
  { "notb %al", function(s) s.rax = with_al(s.rax, bnot(s.rax)) end },
  { "cmpb %bl, %al", compare },
  { "jne", compare },

  { "movabsq", function(s) s.rax = 0x0f0f0f0f0f0f0f0fULL end },
  { "andq %rbx, %rax", function(s) s.rax = band(s.rax, s.rbx) end },
  { "movabsq", function(s) s.r8 = 0x4040404040404040ULL end },
  { "orq %r8, %rax", function(s) s.rax = bor(s.rax, s.r8) end },
  { "movq %rax, (%r15)", function(s) store64(s, 0, s.rax) end },
  { "movl $8, %ecx", function(s) s.rcx = 8ULL end },
  { "movq %r15, %rsi", function(s) s.rsi = s.r15 end },
  { "movl %r10d, %edx", function(s) s.rdx = s.r10 end },
  { "rep outsb", rep = outsb },
  { "movl $8, %ecx", function(s) s.rcx = 8ULL end },
  { "movq %r15, %rsi", function(s) s.rsi = s.r15 end },
  { "movl %r11d, %edx", function(s) s.rdx = s.r11 end },
  { "rep outsb", rep = outsb },
  { "movl $8, %ecx", function(s) s.rcx = 8ULL end },
  { "leaq 8(%r15), %rdi", function(s) s.rdi = s.r15 + 8 end },
  { "rep insb", rep = insb },
  { "cmpq %rax, 8(%r15)", compare },
  { "jne", compare },

  { "imulq $0x01000193, %rbx, %rax", function(s) s.rax = s.rbx * 0x01000193ULL end },
  { "movl %eax, (%r12)", function(s) s.entry[0] = tonumber(low32(s.rax)) end },
  { "movl (%r12), %r8d", function(s) s.r8 = s.entry[0] + 0ULL end },
  { "cmpl %eax, %r8d", compare },
  { "jne", compare },
  { "notq %rax", function(s) s.rax = bnot(s.rax) end },
  { "movq %rax, (%r12)", function(s)
    s.entry[0] = tonumber(low32(s.rax))
    s.entry[1] = tonumber(rshift(s.rax, 32))
  end },
  { "movq (%r12), %r8", function(s) s.r8 = s.entry[0] + s.entry[1] * 0x100000000ULL end },
  { "cmpq %rax, %r8", compare },
  { "jne", compare },
  -- The lower half is for a place where nothing is, the upper one for the table's first entry.
  { "movq %rax, -4(%r14)", function(s) s.first_entry = rshift(s.rax, 32) end },
  { "movq -4(%r14), %r8", function(s) s.r8 = s.first_entry * 0x100000000ULL end },
  { "shrq $32, %r8", function(s) s.r8 = rshift(s.r8, 32) end },
  { "shrq $32, %rax", function(s) s.rax = rshift(s.rax, 32) end },
  { "cmpq %rax, %r8", compare },
  { "jne", compare },

  { "imulq $0x01000193, %rax, %rax", function(s) s.rax = s.rax * 0x01000193ULL end },
  { "movq %rax, (%r15)", function(s) store64(s, 0, s.rax) end },
  { "movl %ebx, 8(%r15)", function(s) word_at(s, s.r15 + 8)[0] = tonumber(low32(s.rbx)) end },
  { "movl $3, %ecx", function(s) s.rcx = 3ULL end },
  { "movq %r15, %rsi", function(s) s.rsi = s.r15 end },
  { "movq %r12, %rdi", function(s) s.rdi = s.r12 end },
  { "rep movsl", rep = movsl },
  { "movl $3, %ecx", function(s) s.rcx = 3ULL end },
  { "movq %r12, %rsi", function(s) s.rsi = s.r12 end },
  { "leaq 16(%r15), %rdi", function(s) s.rdi = s.r15 + 16 end },
  { "rep movsl", rep = movsl },
  { "cmpq %rax, 16(%r15)", compare },
  { "jne", compare },
  { "cmpl %ebx, 24(%r15)", compare },
  { "jne", compare },

  { "incq (%r13)", function(s) s.rounds = s.rounds + 1 end },
  { "jmp", compare },
}

tiny_io.program = program

local function repeat_times(s, f, times)
  for _ = 1, times do
    f(s)
    s.rcx = s.rcx - 1
  end
end

local function execute(s, row)
  if row.rep then
    repeat_times(s, row.rep, tonumber(s.rcx))
  else
    row[2](s)
  end
end

-- What must be there when `index` is the next instruction, in that round, and rcx is so: a `rep` instruction
-- may be under way, or have done all but step on. Nothing is left of any round but the last.
local function expected(entry, table_page, round, index, rcx)
  local s = new_state(entry, table_page)
  s.rbx = round - 2 + 0ULL
  s.rounds = round - 2
  for _, row in ipairs(program) do
    execute(s, row)
  end
  assert(#s.fifo == 0 and load64(s, 16) == s.rax)
  s.console = {}
  for i = 1, index - 1 do
    execute(s, program[i])
  end
  local row = program[index]
  if row.rep and rcx <= s.rcx then
    repeat_times(s, row.rep, tonumber(s.rcx - rcx))
  end
  return s
end

-- What a whole round prints.
local function round_text(round)
  local bytes = { 64 + round % 32 }
  for i = 0, 7 do
    bytes[#bytes + 1] = 64 + math.floor(round / 256 ^ i) % 16
  end
  return string.char(unpack(bytes))
end

local ROUND_TEXT_SIZE = 9
local CHECKED = { "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r10", "r11", "r12", "r13", "r14", "r15" }
local MARKER = "tiny: io\r\n"

---@class tests.tiny_io.watcher
local watcher = {}
watcher.__index = watcher

local function shown(v)
  return type(v) == "cdata" and ("%#x"):format(tonumber(v)) or tostring(v)
end

local function agree(what, where, found, wanted)
  if found ~= wanted then
    error(("%s at %s: expected %s, found %s"):format(what, where, shown(wanted), shown(found)), 0)
  end
end

--- The console's text behind the marker comes in whole rounds, each as it must be.
function watcher:check_console(where, round, in_round)
  local text, next_offset = self.machine:console(self.offset)
  self.offset = next_offset
  text = self.partial .. text
  if not self.marked then
    local _, last = text:find(MARKER, 1, true)
    assert(last, "the loop has not said that it starts")
    text = text:sub(last + 1)
    self.marked = true
  end
  local at = 1
  while self.printed < round - 1 do
    agree("console", where, text:sub(at, at + ROUND_TEXT_SIZE - 1), round_text(self.printed + 1))
    at = at + ROUND_TEXT_SIZE
    self.printed = self.printed + 1
  end
  self.partial = text:sub(at)
  agree("console", where, self.partial, in_round)
end

--- The instruction that is next, and its round; nil before the second round is through.
---@return integer|nil index, integer|nil round, table<string, ffi.cdata*> registers
function watcher:where()
  local registers = tiny_guest.registers(self.machine, 0)
  local index = self.indices[tonumber(registers.rip)]
  local counter = tonumber(registers.rbx)
  if not index then
    -- On its way into the loop, perhaps.
    assert(self.rounds == 0 and self.machine:read_physical(tiny_guest.address.io, 8) == ("\0"):rep(8),
      ("rip %#x is at no instruction of the loop"):format(tonumber(registers.rip)))
    return nil, nil, registers
  end
  local round = index == 1 and counter + 1 or counter
  if round < 3 then
    return nil, nil, registers
  end
  self.rounds = round
  return index, round, registers
end

--- That everything in the frozen machine is as it must be at this very place. False: the loop has not come
--- far enough yet.
---@return integer|false index, integer|nil round
function watcher:check()
  if not self.indices and not self:learn() then
    return false
  end
  local index, round, registers = self:where()
  if not index then
    return false
  end
  self.entry = self.entry or registers.r12
  self.table_page = self.table_page or registers.r14
  self.rsp = self.rsp or registers.rsp
  local s = expected(self.entry, self.table_page, round, index, registers.rcx)
  local where = ("instruction %d (%s) of round %d"):format(index, program[index][1], round)
  for _, name in ipairs(CHECKED) do
    agree(name, where, registers[name], s[name])
  end
  agree("rsp", where, registers.rsp, self.rsp)
  agree("the buffer", where, self.machine:read_physical(tiny_guest.address.io_buffer, BUFFER_SIZE),
    ffi.string(s.buffer, BUFFER_SIZE))
  local cells = tiny_guest.cells(self.machine, tiny_guest.address.io, 2)
  agree("rounds", where, cells[1], s.rounds)
  agree("mismatches", where, cells[2], 0)
  self:check_console(where, round, string.char(unpack(s.console)))
  return index, round
end

-- Where the instructions are, once the guest has said so.
function watcher:learn()
  local at = tiny_guest.address.io_boundaries
  local count = tiny_guest.cells(self.machine, at, 1)[1]
  if count == 0 then
    return false
  end
  assert(count == #program, ("the loop has %d instructions, not %d"):format(count, #program))
  self.indices = {}
  for i, address in ipairs(tiny_guest.cells(self.machine, at + 8, count)) do
    self.indices[address] = i
  end
  return true
end

--- One that looks at a machine whose guest runs `io`.
---@param machine ktstr.core.machine
---@return tests.tiny_io.watcher
function tiny_io.watch(machine)
  return setmetatable({ machine = machine, offset = 0, partial = "", printed = 0, rounds = 0 }, watcher)
end

return tiny_io
