-- The kernel's IDR: ids to pointers. It is an XArray with a first id.
local access = require "ktstr.kernel.access"
local errors = require "ktstr.errors"
local xarray = require "ktstr.kernel.xarray"

local idr = {}

local function parts(k, object)
  local start = access.place(k, object)
  local base = access.u32(access.memory(k), start + access.offset(k, "struct idr", "idr_base"))
  return start + access.offset(k, "struct idr", "idr_rt"), base
end

-- An IDR whose ids stand for objects has nothing else.
local function checked(id, entry, type)
  if type and not access.is_object(entry) then
    errors.raise("format", ("id %s stands for %s, which leads to no %s"):format(tostring(id), tostring(entry),
      tostring(type)), "a running kernel changes while it is walked: look at a frozen machine")
  end
  return entry
end

--- Ids and what they stand for: `for id, map in k:idr(k:var "map_idr", "struct bpf_map") do`.
---@param k ktstr.Kernel
---@param object ktstr.Object|ktstr.Address the struct idr
---@param type string|nil what the pointers point to; an id that stands for anything else raises "format"
---@return fun(): integer|nil, ktstr.Object|ktstr.Address|integer
function idr.idr(k, object, type)
  local array, base = parts(k, object)
  local next = xarray.xarray(k, array, type)
  return function()
    local index, entry = next()
    if index then
      return index + base, checked(index + base, entry, type)
    end
  end
end

--- What an id stands for; nil when it is free.
---@param k ktstr.Kernel
---@param object ktstr.Object|ktstr.Address
---@param id integer
---@param type string|nil
---@return ktstr.Object|ktstr.Address|integer|nil
function idr.idr_find(k, object, id, type)
  local array, base = parts(k, object)
  if id < base then
    return nil
  end
  local entry = xarray.xarray_find(k, array, id - base, type)
  return entry and checked(id, entry, type)
end

return idr
