-- A capture plan as the program that C runs (core/capture/plan.h): a tree of operations, each with what is
-- done at the addresses that it leads to. What is put into the same place of the tree twice is there once.
local ffi = require "ffi"
require "ktstr.kernel.c" -- declares the structs

local C = ffi.C

local program = {}

local Header, Op = ffi.typeof "struct plan_header", ffi.typeof "struct plan_op"

-- To copy so many bytes that nobody asked for costs less than to begin another piece.
local GAP = 64

-- What a run may take. A freeze of two seconds is a failure, and says so; none is endless.
program.LIMITS = { max_bytes = 32 * 2 ^ 20, max_ns = 2e9, max_steps = 20e6 }

---@class ktstr.PlanNode
---@field copies { [1]: integer, [2]: integer }[] offset and size
local Node = {}
Node.__index = Node

local function new_node()
  return setmetatable({ copies = {}, kids = {}, by_key = {} }, Node)
end

--- So many bytes at an offset of where this node is.
---@param offset integer
---@param size integer
function Node:copy(offset, size)
  self.copies[#self.copies + 1] = { offset, size }
end

local function key_of(op)
  local parts = { op.kind }
  for i, name in ipairs { "flags", "reg", "reg2", "limit", "a", "b", "c" } do
    parts[i + 1] = tostring(op[name] or 0)
  end
  parts[#parts + 1] = op.text
  parts[#parts + 1] = op.apart
  return table.concat(parts, " ")
end

--- Where an operation leads: the node of what is to be done there.
---@param op { kind: string, flags: integer|nil, reg: integer|nil, reg2: integer|nil, limit: integer|nil,
---  a: any, b: any, c: any, text: string|nil, apart: string|nil } kind: "FOLLOW", of enum plan_kind;
---  text: in place of c; apart: it is done for itself, and not with others like it
---@param path string what it is, for people
---@return ktstr.PlanNode
function Node:go(op, path)
  local key = key_of(op)
  local kid = self.by_key[key]
  if not kid then
    kid = { op = op, path = path, node = new_node() }
    self.kids[#self.kids + 1] = kid
    self.by_key[key] = kid
  end
  return kid.node
end

--- An operation that leads nowhere; it is carried out where it stands, as often as it is said.
---@param op table as for go()
---@param path string
function Node:act(op, path)
  self.kids[#self.kids + 1] = { op = op, path = path }
end

-- Offsets and sizes in their order, those that are near to each other together.
local function merged(copies)
  local list = {}
  table.sort(copies, function(x, y)
    return x[1] < y[1]
  end)
  for _, copy in ipairs(copies) do
    local last = list[#list]
    if last and copy[1] <= last[1] + last[2] + GAP then
      last[2] = math.max(last[2], copy[1] + copy[2] - last[1])
    else
      list[#list + 1] = { copy[1], copy[2] }
    end
  end
  return list
end

-- --- bytes ---

local Writer = {}
Writer.__index = Writer

-- The offset of a string in the text; each is there once.
function Writer:text_at(text)
  local at = self.places[text]
  if not at then
    at = self.text_size
    self.places[text] = at
    self.text[#self.text + 1] = text .. "\0"
    self.text_size = at + #text + 1
  end
  return at
end

function Writer:put(op, path)
  local raw = Op()
  raw.kind = C["PLAN_" .. op.kind]
  raw.flags, raw.reg, raw.reg2, raw.limit = op.flags or 0, op.reg or 0, op.reg2 or 0, op.limit or 0
  raw.a, raw.b = op.a or 0, op.b or 0
  raw.c = op.text and self:text_at(op.text) or op.c or 0
  raw.path = self:text_at(path)
  self.ops[#self.ops + 1] = raw
  return raw
end

function Writer:put_node(node, path)
  for _, copy in ipairs(merged(node.copies)) do
    self:put({ kind = "COPY", a = copy[1], b = copy[2] }, path)
  end
  for _, kid in ipairs(node.kids) do
    local raw, first = self:put(kid.op, kid.path), #self.ops
    if kid.node then
      self:put_node(kid.node, kid.path)
      raw.below = #self.ops - first
    end
  end
end

--- An empty tree.
---@return ktstr.PlanNode
function program.new()
  return new_node()
end

--- The program of a tree.
---@param root ktstr.PlanNode
---@param of { cpus: integer, offsets: any, unset: any, id: integer }
---@return string
function program.bytes(root, of)
  local writer = setmetatable({ ops = {}, text = {}, places = {}, text_size = 0 }, Writer)
  writer:text_at ""
  writer:put_node(root, "")
  local pieces = { "" }
  for i, raw in ipairs(writer.ops) do
    pieces[i + 1] = ffi.string(raw, ffi.sizeof(Op))
  end
  local header = Header()
  header.magic, header.ops, header.text_size = C.PLAN_MAGIC, #writer.ops, writer.text_size
  header.cpus, header.percpu_offsets, header.percpu_unset = of.cpus, of.offsets or 0, of.unset or 0
  header.id = of.id
  for name, value in pairs(program.LIMITS) do
    header[name] = value
  end
  pieces[1] = ffi.string(header, ffi.sizeof(Header))
  return table.concat(pieces) .. table.concat(writer.text)
end

return program
