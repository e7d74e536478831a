-- Some members of a struct, as text: "pid,comm,se.vruntime".
local address = require "ktstr.kernel.address"
local pure = require "ktstr.repl.pure"
local show = require "ktstr.repl.show"

local members = {}

local function each(names)
  return names:gmatch "[^,]+"
end

-- Pointers are shown, and not followed.
local function text_of(object, name)
  local value = object:get_(name)
  if pure.is_object(value) then
    local type = object:member_(name):type_()
    if type.kind == "pointer" then
      return ("(%s) %s"):format(type.name, value:address_() == address.new(0) and "NULL" or value:address_())
    end
  end
  return (show.value(value):gsub("\n", "\n  "))
end

--- What they are worth in an object: one a line.
---@param object ktstr.Object
---@param names string paths, with commas between them
---@return string
function members.values(object, names)
  local lines = {}
  for name in each(names) do
    lines[#lines + 1] = ("  %s = %s"):format(name, text_of(object, name))
  end
  return table.concat(lines, "\n")
end

--- Where they lie in a type, in bytes, and what they are.
---@param type ktstr.Type
---@param names string
---@return string
function members.offsets(type, names)
  local find = require("ktstr.kernel.object").offset
  local lines = { type.name .. " {" }
  for name in each(names) do
    local bits, member = find(type, name)
    lines[#lines + 1] = ("  [%d] %s %s"):format(math.floor(bits / 8), member and member.type.name or "", name)
  end
  return table.concat(lines, "\n") .. "\n}"
end

return members
