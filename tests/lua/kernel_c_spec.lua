-- What Lua declares of C for its FFI has to be what the headers say: a struct with a member too few would
-- read the wrong bytes, and nobody would be told.

-- The library itself, over the core of the program that runs this.
local c = require "ktstr.kernel.c"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- Without comments, preprocessor lines and what only the compiler wants to know; blanks made alike.
local function normalised(text)
  text = text:gsub("/%*.-%*/", " "):gsub("//[^\n]*", "")
  text = text:gsub("#[^\n]*\\\n[^\n]*", ""):gsub("#[^\n]*", "")
  text = text:gsub("MUST_CHECK", ""):gsub("PRINTF_LIKE%b()", ""):gsub("__attribute__%b()", "")
  text = text:gsub("%s+", " "):gsub(" ?([%p]) ?", function(punctuation)
    return punctuation == "_" and nil or punctuation
  end)
  return text
end

-- "struct a{...};", "void f(int);": each as one string, in a set.
local function declarations(text)
  local set, list, depth, start = {}, {}, 0, 1
  text = normalised(text)
  for place, character in text:gmatch "()([{};])" do
    if character == "{" then
      depth = depth + 1
    elseif character == "}" then
      depth = depth - 1
    elseif depth == 0 then
      local one = text:sub(start, place - 1):gsub("^ +", ""):gsub(",}", "}")
      set[one], list[#list + 1] = true, one
      start = place + 1
    end
  end
  return set, list
end

describe("the declarations of C in Lua", function()
  for _, header in ipairs(c.headers) do
    it("are those of " .. header, function()
      local known = declarations(read("core/" .. header))
      local _, ours = declarations(c.declarations[header])
      assert.is_true(#ours > 0)
      for _, one in ipairs(ours) do
        -- A struct that another header defines is only named.
        if not one:match "^struct [%w_]+$" then
          assert(known[one], ("core/%s does not declare: %s"):format(header, one))
        end
      end
    end)
  end

  it("leave no header out", function()
    local count = 0
    for _ in pairs(c.declarations) do
      count = count + 1
    end
    assert.equal(count, #c.headers)
  end)
end)

describe("a struct error of C's", function()
  it("is raised with its code, message and hint", function()
    local ffi = require "ffi"
    local image = ffi.new "struct kernel_image *[1]"
    local ok, e = pcall(c.check, ffi.C.kernel_image_open("/no/such/kernel", image))
    assert.is_false(ok)
    assert.equal("not-found", e.code)
    assert.matches("/no/such/kernel", e.message, 1, true)
  end)

  it("is nothing where it is NULL", function()
    c.check(nil)
  end)
end)
