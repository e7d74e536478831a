-- Exit statuses of the program, whatever the number of failures.
local errors = require "ktstr.errors"

local status = {
  PASSED = 0,
  FAILED = 1,
  CANNOT_RUN = 2,
  INCONCLUSIVE = 3,
}

-- Which of two wins.
local rank = { [2] = 4, [1] = 3, [3] = 2, [0] = 1 }

---@param a integer
---@param b integer
---@return integer
function status.worse(a, b)
  return rank[a] >= rank[b] and a or b
end

--- What an error that nobody caught comes to.
---@param e any
---@return integer
function status.of_error(e)
  return errors.is(e) and e.cannot_run and status.CANNOT_RUN or status.FAILED
end

---@param result ktstr.TestResult
---@return integer
function status.of_test(result)
  if result.status == "error" then
    return status.of_error(result.error)
  elseif result.status == "fail" then
    return status.FAILED
  end
  return result.status == "inconclusive" and status.INCONCLUSIVE or status.PASSED
end

return status
