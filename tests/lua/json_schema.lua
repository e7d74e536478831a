-- JSON against docs/captures.schema.json, by somebody else's validator: Python's jsonschema.
local dkjson = require "dkjson"
local files = require "ktstr.files"

local json_schema = {}

local SCHEMA = "docs/captures.schema.json"
local SCRIPT = [[
import json, sys
from jsonschema import Draft202012Validator
with open(sys.argv[1]) as f:
    schema = json.load(f)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
with open(sys.argv[2]) as f:
    documents = json.load(f)
result = []
for document in documents:
    errors = [e.json_path + ": " + e.message[:200] for e in validator.iter_errors(json.loads(document))]
    result.append("; ".join(errors))
json.dump(result, sys.stdout)
]]

--- Why there is no validator here, or nil.
---@return string|nil
function json_schema.missing()
  if os.execute "python3 -c 'from jsonschema import Draft202012Validator' >/dev/null 2>&1" ~= 0 then
    return "needs python3 with jsonschema: scripts/setup installs it"
  end
end

--- What is wrong with each of these texts; "" where that is nothing.
---@param texts string[]
---@return string[]
function json_schema.all(texts)
  local path = os.tmpname()
  files.write(path, dkjson.encode(texts))
  local pipe = assert(io.popen(("python3 -c '%s' %s %s 2>&1"):format(SCRIPT, SCHEMA, path)))
  local said = pipe:read "*a"
  pipe:close()
  os.remove(path)
  local result = dkjson.decode(said)
  assert(type(result) == "table", said)
  assert(#result == #texts)
  return result
end

--- Those that are none of the schema's, with what is wrong.
---@param texts string[]
---@return string[]
function json_schema.errors(texts)
  local list = {}
  for _, text in ipairs(json_schema.missing() and {} or json_schema.all(texts)) do
    if text ~= "" then
      list[#list + 1] = text
    end
  end
  return list
end

return json_schema
