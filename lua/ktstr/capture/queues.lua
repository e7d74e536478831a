-- sched_ext's dispatch queues by id in a capture plan: they are in a hash table, which says itself how large
-- it is.
local errors = require "ktstr.errors"
local path = require "ktstr.capture.path"

local queues = {}

local BUCKETS_MAX, QUEUES_MAX = 2 ^ 16, 2 ^ 16
local SIZE, WORD = 0, 1
local TEXT = "sched_ext's dispatch queues"

-- Where the tables are: of each scheduler, of the only one, of all.
local TABLES = { "scx_sched_all[struct scx_sched.all].dsq_hash", "scx_root.dsq_hash",
  "(struct rhashtable)dsq_hash" }

local function at(set, type, member)
  return set:get(type):member(member).offset / 8
end

local function add_table(set, node, offset)
  local buckets = at(set, "struct bucket_table", "buckets")
  local tbl = node:go({ kind = "FOLLOW", a = offset + at(set, "struct rhashtable", "tbl") }, TEXT)
  tbl:copy(0, buckets)
  tbl:act({ kind = "LOAD", reg = SIZE, a = at(set, "struct bucket_table", "size"), b = 4 }, TEXT)
  tbl:act({ kind = "SET", reg = WORD, a = 8 }, TEXT)
  tbl:act({ kind = "COPY_SIZED", reg = SIZE, reg2 = WORD, limit = BUCKETS_MAX * 8, a = buckets }, TEXT)
  -- Bit 0 of a bucket is its lock.
  tbl:go({ kind = "ARRAY_SIZED", reg = SIZE, limit = BUCKETS_MAX, a = buckets, b = 8 }, TEXT)
    :go({ kind = "CHAIN", b = at(set, "struct scx_dispatch_q", "hash_node"), c = 1, limit = QUEUES_MAX },
      TEXT)
    :copy(0, set:get("struct scx_dispatch_q").size)
end

--- The queues that schedulers have made, into a plan's tree.
---@param k ktstr.Kernel
---@param root ktstr.PlanNode
function queues.add(k, root)
  local set = k:_types()
  if not set:find "struct bucket_table" or not set:find "struct scx_dispatch_q" then
    return
  end
  for _, text in ipairs(TABLES) do
    local ok, actions = pcall(path.find, k, path.parse(text))
    if ok then
      -- The last thing that is done is to copy the table's own struct.
      add_table(set, path.apply(root, actions), actions[#actions][1])
      return
    elseif not errors.is(actions, "not-found") then
      error(actions, 0)
    end
  end
end

return queues
