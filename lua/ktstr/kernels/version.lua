-- Version strings of kernels: which of two is higher, and which ones a short form means.

local version = {}

-- Debian's order of one character: '~' before the end of the text, letters before the rest.
local function rank(char)
  if char == "" then
    return 0
  elseif char == "~" then
    return -1
  elseif char:match "%a" then
    return char:byte()
  end
  return char:byte() + 256
end

local function compare_part(a, b)
  while a ~= "" or b ~= "" do
    local words_a, words_b = a:match "^%D*", b:match "^%D*"
    for i = 1, math.max(#words_a, #words_b) do
      local rank_a, rank_b = rank(words_a:sub(i, i)), rank(words_b:sub(i, i))
      if rank_a ~= rank_b then
        return rank_a < rank_b and -1 or 1
      end
    end
    a, b = a:sub(#words_a + 1), b:sub(#words_b + 1)
    local digits_a, digits_b = a:match "^%d*", b:match "^%d*"
    local number_a, number_b = tonumber(digits_a) or 0, tonumber(digits_b) or 0
    if number_a ~= number_b then
      return number_a < number_b and -1 or 1
    end
    a, b = a:sub(#digits_a + 1), b:sub(#digits_b + 1)
  end
  return 0
end

-- Upstream's "-rc1" precedes the release, as Debian's "~rc1" does.
local function split(text)
  text = text:gsub("%-rc(%d)", "~rc%1")
  local upstream, revision = text:match "^(.*)%-([^-]*)$"
  return upstream or text, revision or ""
end

--- As `dpkg --compare-versions` orders them (without epochs, which kernels do not have).
---@param a string
---@param b string
---@return integer -1, 0 or 1
function version.compare(a, b)
  local upstream_a, revision_a = split(a)
  local upstream_b, revision_b = split(b)
  local order = compare_part(upstream_a, upstream_b)
  return order ~= 0 and order or compare_part(revision_a, revision_b)
end

--- Whether a version or release string is the one asked for, or begins with it by component:
--- "7.3" means 7.3.4+deb13-cloud-amd64, and "6.1" does not mean 6.12.117.
---@param wanted string
---@param name string
---@return boolean
function version.matches(wanted, name)
  return name:sub(1, #wanted) == wanted and not name:sub(#wanted + 1, #wanted + 1):match "%w"
end

--- Whether a text can be a version at all: it starts with a digit and has nothing of a path in it.
---@param text string
---@return boolean
function version.is_version(text)
  return text:match "^%d[%w.+~%-]*$" ~= nil and text:match "%w$" ~= nil
end

--- The upstream part of a package's version: "6.1.192" of "6.1.192-2", "7.3.4" of "7.3.4-1~bpo13+1".
---@param package_version string
---@return string
function version.upstream(package_version)
  return (split(package_version))
end

return version
