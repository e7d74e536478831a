-- Sizes in bytes: "768M", "2G", 65536.
local errors = require "ktstr.errors"

local size = {}

local units = { [""] = 1, K = 2 ^ 10, M = 2 ^ 20, G = 2 ^ 30, T = 2 ^ 40 }

--- A number is bytes; a string is a number with K, M, G or T (powers of 1024; "MiB" and "MB" mean the
--- same). Raises "invalid" naming `what`.
---@param value string|number
---@param what string
---@return number bytes
function size.parse(value, what)
  local bytes
  if type(value) == "number" then
    bytes = value
  elseif type(value) == "string" then
    local digits, unit = value:match "^%s*(%d+%.?%d*)%s*([KMGTkmgt]?)i?B?%s*$"
    bytes = digits and tonumber(digits) * units[unit:upper()]
  end
  if not bytes or not (bytes > 0 and bytes < 2 ^ 47) or bytes % 1 ~= 0 then
    errors.refuse("invalid", ("%s is not a size: '%s'"):format(what, tostring(value)),
      "write a number with K, M, G or T, such as \"768M\"")
  end
  return bytes
end

--- "768 MiB", for people.
---@param bytes number
---@return string
function size.format(bytes)
  for _, unit in ipairs { "T", "G", "M", "K" } do
    if bytes >= units[unit] then
      return (("%.1f %siB"):format(bytes / units[unit], unit):gsub("%.0 ", " "))
    end
  end
  return ("%d bytes"):format(bytes)
end

return size
