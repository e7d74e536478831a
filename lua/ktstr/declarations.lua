-- Where declared tests go: whoever runs a file that declares tests takes them in here.
local declarations = {}

local sink

--- Who takes in declarations from now on.
---@param f fun(declared: table)|nil
function declarations.set_sink(f)
  sink = f
end

---@param declared table
---@return boolean whether anybody takes them in
function declarations.add(declared)
  if not sink then
    return false
  end
  sink(declared)
  return true
end

return declarations
