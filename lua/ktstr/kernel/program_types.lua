-- The types of BPF programs: each has brought its BTF into the kernel, as bytes.
local access = require "ktstr.kernel.access"
local types = require "ktstr.kernel.types"

local MAX_BTF = 64 * 2 ^ 20

-- By kernel: the bytes of a BTF to its types. Its id would not do: a machine that goes back in time gives it
-- to others.
local known = setmetatable({}, { __mode = "k" })

local function blob_of(k, btf)
  local data = access.member_word(k, btf, "data")
  return k:read(access.pointer(data), math.min(btf.data_size, MAX_BTF))
end

--- The types of a struct btf. Raises "format" for damaged ones.
---@param k ktstr.Kernel
---@param btf ktstr.Object
---@return ktstr.TypeSet
return function(k, btf)
  local is_split = btf.base_btf ~= k.null
  if btf.kernel_btf and not is_split then
    return access.types(k)
  end
  local of_kernel = known[k] or {}
  known[k] = of_kernel
  local blob = blob_of(k, btf)
  local found = of_kernel[blob]
  if not found then
    found = types.from_blob(blob, is_split and access.types(k) or nil)
    of_kernel[blob] = found
  end
  return found
end
