-- A capture's JSON that somebody has changed, anywhere: it is refused, or what is asked of it is answered or
-- refused. Nothing else comes of it.
local dkjson = require "dkjson"
local errors = require "ktstr.errors"
local ktstr = require "ktstr"

local ROUNDS, BYTES = 300, 100

local WHOLE = [[{ "format": "ktstr capture", "version": 1, "tag": "t", "source": "main", "elapsed_ms": 1.5,
  "workload_ms": 1, "clock": 2, "frozen_ms": 0.1, "release": "7.3", "phase": "p", "epoch": 1,
  "notes": [{ "what": "null", "count": 2, "address": { "$address": "0xffff888000000000" }, "path": "a.b",
    "text": "a.b: NULL" }],
  "cpus": [{ "regs": { "rip": { "$address": "0xffffffff81000000" }, "rax": 1, "rflags": 2 } },
    { "regs": { "rip": 5 } }],
  "values": { "jiffies_64": { "$int": "9007199254740993" }, "name": "text", "bytes": { "$bytes": "ff00" },
    "runqueues": [{ "nr_running": 1, "curr": { "pid": 5, "comm": "x" } }, null],
    "tasks": [{ "pid": 1, "comm": "init", "tgid": 1, "list": [1, null, { "a": 1 }] }, { "pid": 2 },
      { "$missing": "the record is full" }] },
  "maps": [{ "id": 1, "name": "a.bss", "type": "array", "key_size": 4, "value_size": 8, "max_entries": 1,
      "globals": { "x": 1, "y": { "z": [1, 2] } } },
    { "id": 2, "name": "h", "type": "hash", "key_size": 4, "value_size": 8, "max_entries": 9,
      "entries": [{ "key": 1, "value": { "a": 1 } }, { "key": { "b": 1 }, "value": [1, 2] }] },
    { "id": 3, "name": "r", "type": "ringbuf", "key_size": 0, "value_size": 0, "max_entries": 4096,
      "records": ["one", { "$bytes": "00ff" }] },
    { "id": 4, "name": "ar", "type": "arena", "key_size": 0, "value_size": 0, "max_entries": 1,
      "pages": [{ "address": { "$address": "0x0000100000000000" }, "bytes": "x" }] },
    { "id": 5, "name": "q", "type": "queue", "key_size": 0, "value_size": 4, "max_entries": 4,
      "unreadable": "nobody reads it" },
    { "$missing": "the record is full" }] }]]

-- What a value becomes.
local OTHERS = { 5, -1, 1e300, "x", "", true, dkjson.null, {}, { 1, dkjson.null, 2 }, { ["$int"] = "x" },
  { ["$int"] = 5 }, { ["$missing"] = "why" }, { ["$bytes"] = "zz" }, { ["$address"] = "0x" },
  { ["$address"] = "nonsense" }, { ["$address"] = "0xffffffffffffffffff" }, { a = 1 }, "$nothing" }

-- Fails for whatever is no error of the library's.
local function attempt(what, f)
  local ok, result = xpcall(f, function(e)
    return errors.is(e) and e or debug.traceback(tostring(e), 2)
  end)
  assert(ok or errors.is(result), ("%s: %s"):format(what, tostring(result)))
  return ok and result or nil
end

local function through(next_one)
  for a, b in next_one do
    local _ = tostring(a) .. tostring(b)
  end
end

local function use_map(what, map)
  attempt(what, function() return tostring(map) end)
  for _, method in ipairs { "entries", "records", "pages" } do
    attempt(what .. ": " .. method, function() through(map[method](map)) end)
  end
  attempt(what .. ": lookup", function() return map:lookup(1) end)
  attempt(what .. ": globals", function() return tostring(map:globals()) end)
end

local function use(what, kept)
  for _, method in ipairs { "text", "json", "values", "data" } do
    attempt(what .. ": " .. method, function() return tostring(kept[method](kept)) end)
  end
  attempt(what, function() return tostring(kept) end)
  attempt(what .. ": tasks", function() through(kept:tasks()) end)
  for _, pid in ipairs { 1, 2, 3 } do
    attempt(what .. ": task", function() return tostring((kept:task(pid))) end)
  end
  attempt(what .. ": maps", function()
    for map in kept:maps() do
      use_map(what, map)
    end
  end)
  for _, name in ipairs { ".bss", "h", 3, "no_such" } do
    attempt(what .. ": map", function() return kept:map(name) end)
  end
  for cpu = 0, 2 do
    attempt(what .. ": cpu", function() return tostring(kept:cpu(cpu).regs) .. tostring(kept:cpu(cpu).rq) end)
  end
  for _, path in ipairs { "cpus[0].rq.nr_running", "cpus[0].rq.curr.comm", "tasks[1].list[2].a", "name",
    "maps[.bss].y.z[1]", "jiffies_64", "runqueues[1].x", "x", "no_such" } do
    attempt(what .. ": get " .. path, function() return tostring(kept:get(path)) end)
  end
  for _, note in ipairs(kept.notes) do
    local _ = note.what .. note.text .. note.path .. note.count .. tostring(note.address)
  end
end

-- Every place of a document: a table and a key.
local function places_of(value, list)
  for key, inner in pairs(value) do
    list[#list + 1] = { value, key }
    if type(inner) == "table" then
      places_of(inner, list)
    end
  end
  return list
end

describe("a capture's JSON", function()
  it("is read as it stands", function()
    local kept = ktstr.record(WHOLE)
    use("as it stands", kept)
    assert.same({ 1, "text", 1 }, { kept:get "cpus[0].rq.nr_running", kept:get "name",
      kept:get "tasks[1].list[2].a" })
    assert.equals(kept:json(), ktstr.record(kept:json()):json())
  end)

  it("with a value that is another is refused, or does what it can", function()
    local document = dkjson.decode(WHOLE, 1, dkjson.null)
    local places, counts = places_of(document, {}), { read = 0, refused = 0 }
    math.randomseed(1)
    for _ = 1, ROUNDS do
      local place = places[math.random(#places)]
      local before, other = place[1][place[2]], OTHERS[math.random(#OTHERS)]
      place[1][place[2]] = other ~= "$nothing" and other or nil
      local text = dkjson.encode(document)
      place[1][place[2]] = before
      local kept = attempt(text, function() return ktstr.record(text) end)
      counts[kept and "read" or "refused"] = counts[kept and "read" or "refused"] + 1
      if kept then
        use(text, kept)
      end
    end
    assert.is_true(counts.read > ROUNDS / 10 and counts.refused > ROUNDS / 10,
      ("%d read, %d refused"):format(counts.read, counts.refused))
  end)

  it("with a byte that is another, or an end that is missing, likewise", function()
    math.randomseed(2)
    for _ = 1, BYTES do
      local at = math.random(#WHOLE)
      local text = WHOLE:sub(1, at - 1) .. string.char(math.random(0, 255)) .. WHOLE:sub(at + 1)
      local kept = attempt(text, function() return ktstr.record(text) end)
      if kept then
        use(text, kept)
      end
      assert.is_nil(attempt(text, function() return ktstr.record(WHOLE:sub(1, at - 1)) end))
    end
  end)
end)
