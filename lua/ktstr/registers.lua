-- A vCPU's registers, from the bytes of KVM's structures (x86-64).
local errors = require "ktstr.errors"
local ffi = require "ffi"

local registers = {}

local general = {
  "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
  "r15", "rip", "rflags",
}
local segments = { "cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt" }
local tables = { "gdt", "idt" }
local control = { "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base" }

-- struct kvm_segment: u64 base, u32 limit, u16 selector, then bytes in this order, and padding to 24.
local SEGMENT_SIZE = 24
local segment_bytes = { "type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable" }
local DTABLE_SIZE = 16 -- u64 base, u16 limit, padding
local WORD = 8

local EXACT = 2ULL ^ 53

-- A number where one holds it exactly, else uint64_t.
local function number(value)
  return value < EXACT and tonumber(value) or value
end

local function u64_at(bytes, offset)
  local value = ffi.new "uint64_t[1]"
  ffi.copy(value, bytes:sub(offset + 1, offset + WORD), WORD)
  return number(value[0])
end

local function unsigned_at(bytes, offset, size)
  local value = 0
  for i = size, 1, -1 do
    value = value * 256 + bytes:byte(offset + i)
  end
  return value
end

local function segment_at(bytes, offset)
  local segment = {
    base = u64_at(bytes, offset),
    limit = unsigned_at(bytes, offset + 8, 4),
    selector = unsigned_at(bytes, offset + 12, 2),
  }
  for i, name in ipairs(segment_bytes) do
    segment[name] = bytes:byte(offset + 14 + i)
  end
  return segment
end

local function hex(value)
  return type(value) == "cdata" and bit.tohex(value) or ("%016x"):format(value)
end

local function code_mode(cs)
  return ("  ring %d, %s"):format(cs.dpl, cs.l == 1 and "64 bit" or cs.db == 1 and "32 bit" or "16 bit")
end

local Registers = {}

-- Four to a line, as a kernel prints them; then segments and control registers.
function Registers.__tostring(self)
  local lines = { ("CPU %d"):format(self.cpu) }
  local function add(names)
    for i = 1, #names, 4 do
      local parts = {}
      for j = i, math.min(i + 3, #names) do
        parts[#parts + 1] = ("%-6s %s"):format(names[j], hex(self[names[j]]))
      end
      lines[#lines + 1] = table.concat(parts, "  ")
    end
  end
  add { "rip", "rflags", "rsp", "rbp" }
  add { "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" }
  for _, name in ipairs(segments) do
    local s = self[name]
    lines[#lines + 1] = ("%-6s %04x  base %s  limit %08x%s"):format(name, s.selector, hex(s.base), s.limit,
      name == "cs" and code_mode(s) or "")
  end
  for _, name in ipairs(tables) do
    lines[#lines + 1] = ("%-6s base %s  limit %04x"):format(name, hex(self[name].base), self[name].limit)
  end
  add(control)
  return table.concat(lines, "\n")
end

---@class ktstr.Registers
---@field cpu integer
---@field rip number|ffi.cdata* and rax ... r15, rflags, cr0, cr2, cr3, cr4, cr8, efer, apic_base: a number
---  below 2^53, a uint64_t above
---@field cs { base: number|ffi.cdata*, limit: number, selector: number, dpl: number, l: number } and ds, es,
---  fs, gs, ss, tr, ldt; type, present, db, s, g, avl, unusable too
---@field gdt { base: number|ffi.cdata*, limit: number } and idt

--- Decodes struct kvm_regs and struct kvm_sregs. Raises "format" when they are too short to be those.
---@param cpu integer
---@param regs string
---@param sregs string
---@return ktstr.Registers
function registers.decode(cpu, regs, sregs)
  local sregs_size = #segments * SEGMENT_SIZE + #tables * DTABLE_SIZE + #control * WORD
  if #regs < #general * WORD or #sregs < sregs_size then
    errors.raise("format", ("registers of CPU %d: %d and %d bytes"):format(cpu, #regs, #sregs))
  end
  local r = { cpu = cpu }
  for i, name in ipairs(general) do
    r[name] = u64_at(regs, (i - 1) * WORD)
  end
  local offset = 0
  for _, name in ipairs(segments) do
    r[name] = segment_at(sregs, offset)
    offset = offset + SEGMENT_SIZE
  end
  for _, name in ipairs(tables) do
    r[name] = { base = u64_at(sregs, offset), limit = unsigned_at(sregs, offset + WORD, 2) }
    offset = offset + DTABLE_SIZE
  end
  for _, name in ipairs(control) do
    r[name] = u64_at(sregs, offset)
    offset = offset + WORD
  end
  return setmetatable(r, Registers)
end

return registers
