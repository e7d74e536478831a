-- The types of BPF programs: each has brought its BTF into the kernel, as bytes.
local ffi = require "ffi"
local access = require "ktstr.kernel.access"
local errors = require "ktstr.errors"
local types = require "ktstr.kernel.types"

local MAX_BTF = 64 * 2 ^ 20

-- By kernel: the bytes of a BTF to its types. Its id would not do: a machine that goes back in time gives it
-- to others.
local known = setmetatable({}, { __mode = "k" })

local function blob_of(k, btf)
  local data = access.member_word(k, btf, "data")
  return k:read(access.pointer(data), math.min(btf.data_size, MAX_BTF))
end

-- A module that was built elsewhere brings a base of its own (.BTF.base, from 6.12 on): its types count on
-- from those few. The kernel rewrites them for its own as it loads the module, and keeps only that; what does
-- not count on from the kernel's types would be read as others.
local function check_base(k, btf)
  local first = ffi.C.types_end(access.types(k).handle)
  if btf.start_id ~= first or btf.base_btf.base_btf ~= k.null then
    errors.raise("unsupported", ("the types of '%s' go on from others than the kernel's: from number %d, and "
      .. "the kernel's end at %d"):format(btf.name, btf.start_id, first))
  end
end

--- The types of a struct btf. Raises "format" for damaged ones, "unsupported".
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
    if is_split then
      check_base(k, btf)
    end
    found = types.from_blob(blob, is_split and access.types(k) or nil)
    of_kernel[blob] = found
  end
  return found
end
