-- `ktstr script FILE [ARGS]`: reads a Lua file ("-": standard input), then runs the tests that it declared.
local declarations = require "ktstr.declarations"
local errors = require "ktstr.errors"
local status = require "ktstr.status"

local script = {}

--- Reads a script ("-": standard input). A syntax error is one line: "file:3: unexpected symbol near 'x'".
---@param path string
---@return function
function script.load(path)
  local chunk, message = loadfile(path ~= "-" and path or nil)
  if not chunk then
    local unreadable = message:find "^cannot open " or message:find "^cannot read "
    errors.refuse(unreadable and "not-found" or "format", (message:gsub("%s*\n%s*", " ")))
  end
  return chunk
end

--- What a script finds when it runs: modules beside it, whatever the working directory is, and its arguments.
---@param path string
---@param args string[]
function script.set_up(path, args)
  local directory = path:match "^(.*)/[^/]*$" or "."
  package.path = ("%s/?.lua;%s/?/init.lua;%s"):format(directory, directory, package.path)
  _G.arg = { [0] = path, unpack(args) }
end

local function run_tests(declared, out)
  local report, test = require "ktstr.report", require "ktstr.test"
  local results, worst = {}, status.PASSED
  for i, one in ipairs(declared) do
    local result = test.run(one)
    results[i] = result
    worst = status.worse(worst, status.of_test(result))
    if status.of_test(result) == status.CANNOT_RUN then
      io.stderr:write(("ktstr: test '%s': %s\n"):format(one.name, tostring(result.error)))
    else
      out:write(report.block(result), "\n\n")
    end
    out:flush()
  end
  out:write(report.summary(results), "\n")
  return worst
end

--- Runs a script; what it raises is the caller's to report.
---@param path string
---@param args string[] what the script sees as ... and as arg
---@return integer exit status
function script.run(path, args)
  local chunk = script.load(path)
  local declared = {}
  declarations.set_sink(function(one)
    declared[#declared + 1] = one
  end)
  script.set_up(path, args)
  chunk(unpack(args))
  declarations.set_sink(nil)
  return #declared > 0 and run_tests(declared, io.stdout) or status.PASSED
end

return script
