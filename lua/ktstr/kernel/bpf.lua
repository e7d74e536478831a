-- BPF maps and programs, found by the kernel's own tables of ids.
local access = require "ktstr.kernel.access"
local bpf_map = require "ktstr.kernel.bpf_map"
local errors = require "ktstr.errors"
local idr = require "ktstr.kernel.idr"
local program_types = require "ktstr.kernel.program_types"

local bpf = {}

local MAX_USED_MAPS = 64 * 1024
local MAX_FUNCTIONS = 4096
local NAME_LENGTH = 15

-- A program's maps, as addresses.
local function used_maps(k, aux)
  local m = access.memory(k)
  local array = access.member_word(k, aux, "used_maps")
  local list = {}
  for i = 0, math.min(aux.used_map_cnt, MAX_USED_MAPS) - 1 do
    list[#list + 1] = access.word(m, array + i * 8)
  end
  return list
end

-- The types of a program that uses a map, for maps that have none of their own.
local function types_of_user(k, object)
  local wanted = access.address(object)
  for _, prog in idr.idr(k, access.symbol(k, "prog_idr"), "struct bpf_prog") do
    local aux = prog.aux
    if aux.btf ~= k.null then
      for _, used in ipairs(used_maps(k, aux)) do
        if used == wanted then
          return program_types(k, aux.btf)
        end
      end
    end
  end
end

local function new_map(k, object)
  return bpf_map.new(k, object, function()
    return types_of_user(k, object)
  end)
end

--- Every BPF map, by its id: `for map in k:bpf_maps() do`.
---@param k ktstr.Kernel
---@return fun(): ktstr.BpfMap|nil
function bpf.bpf_maps(k)
  local next = idr.idr(k, access.symbol(k, "map_idr"), "struct bpf_map")
  return function()
    local _, object = next()
    return object and new_map(k, object)
  end
end

--- The map of that name or id. The kernel keeps 15 characters of a name, so a longer one finds what begins
--- like it. Raises "not-found", and "ambiguous" with the ids when several have the name.
---@param k ktstr.Kernel
---@param name string|integer
---@return ktstr.BpfMap
function bpf.bpf_map(k, name)
  local found, names = {}, {}
  for map in bpf.bpf_maps(k) do
    names[#names + 1] = ("%s (%d)"):format(map.name, map.id)
    if map.id == name or (type(name) == "string" and map.name == name:sub(1, NAME_LENGTH)) then
      found[#found + 1] = map
    end
  end
  if #found == 0 then
    errors.raise("not-found", ("there is no BPF map %s"):format(tostring(name)),
      #names > 0 and "there are: " .. table.concat(names, ", ") or "no map at all is there")
  elseif #found > 1 then
    local ids = {}
    for i, map in ipairs(found) do
      ids[i] = map.id
    end
    errors.raise("ambiguous", ("%d BPF maps are called '%s': ids %s"):format(#found, name,
      table.concat(ids, ", ")), "give an id")
  end
  return found[1]
end

---@class ktstr.BpfProg
---@field id integer
---@field name string the function's whole name where the kernel has it, else 15 characters
---@field type string "struct_ops", "tracing" ...
---@field tag string 16 hexadecimal digits
---@field verified_insns integer instructions that the verifier went through
---@field jited_len integer bytes of machine code
---@field address ktstr.Address of its machine code
---@field object ktstr.Object its struct bpf_prog
local Prog = {}
Prog.__index = Prog

Prog.__tostring = function(prog)
  return ("BPF program %d '%s' (%s)"):format(prog.id, prog.name, prog.type)
end

--- The maps that the program uses.
---@return ktstr.BpfMap[]
function Prog:maps()
  local list = {}
  for i, at in ipairs(used_maps(self.k, self.object.aux)) do
    list[i] = new_map(self.k, access.object(self.k, "struct bpf_map", at))
  end
  return list
end

--- The types of the program; nil when it came without BTF.
---@return ktstr.TypeSet|nil
function Prog:types()
  local btf = self.object.aux.btf
  return btf ~= self.k.null and program_types(self.k, btf) or nil
end

-- Bytes of machine code: of all functions of a program that has several.
local function jited_length(k, object, aux)
  local m = access.memory(k)
  local functions = access.member_word(k, aux, "func")
  local offset = access.offset(k, "struct bpf_prog", "jited_len")
  local sum = 0
  for i = 0, math.min(aux.func_cnt, MAX_FUNCTIONS) - 1 do
    sum = sum + access.u32(m, access.word(m, functions + i * 8) + offset)
  end
  return sum > 0 and sum or object.jited_len
end

local function new_prog(k, object)
  local aux = object.aux
  local m = access.memory(k)
  local type = access.u32(m, access.address(object:member_ "type"))
  local type_name = access.enum_name(k, "enum bpf_prog_type", type)
  local tag = k:read(object:member_("tag"):address_(), 8):gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end)
  -- Its symbol is called bpf_prog_TAG_NAME.
  local full = aux:has_ "ksym" and aux.ksym.name:match("^bpf_prog_" .. tag .. "_(.+)$")
  return setmetatable({
    k = k,
    id = aux.id,
    name = full or aux.name,
    type = type_name and type_name:gsub("^BPF_PROG_TYPE_", ""):lower() or tostring(type),
    tag = tag,
    verified_insns = aux:has_ "verified_insns" and aux.verified_insns or nil,
    jited_len = jited_length(k, object, aux),
    address = access.pointer(access.member_word(k, object, "bpf_func")),
    object = object,
  }, Prog)
end

--- Every loaded BPF program, by its id.
---@param k ktstr.Kernel
---@return fun(): ktstr.BpfProg|nil
function bpf.bpf_progs(k)
  local next = idr.idr(k, access.symbol(k, "prog_idr"), "struct bpf_prog")
  return function()
    local _, object = next()
    return object and new_prog(k, object)
  end
end

return bpf
