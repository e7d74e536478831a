-- The names of all values of all enums of a kernel.
local ffi = require "ffi"
require "ktstr.kernel.c"

local C = ffi.C

local enumerators = {}

--- In the order of the types; a name that several enums have is there several times.
---@param set ktstr.TypeSet
---@return string[]
function enumerators.of(set)
  local info = ffi.new "struct type_info"
  local name, value = ffi.new "const char *[1]", ffi.new "int64_t[1]"
  local list = {}
  for id = 1, C.types_end(set.handle) - 1 do
    local err = C.types_info(set.handle, id, info)
    if err ~= nil then
      C.error_destroy(err) -- no type, but a tag
    elseif info.kind == C.TYPE_ENUM and info.id == id then
      for i = 0, info.count - 1 do
        err = C.types_get_value(set.handle, id, i, name, value)
        if err ~= nil then
          C.error_destroy(err)
          break
        end
        list[#list + 1] = ffi.string(name[0])
      end
    end
  end
  return list
end

return enumerators
