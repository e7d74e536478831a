-- A core file of a stock guest that vm:dump() has written (KTSTR_DUMP; scripts/run-tests dump makes one),
-- read by ktstr again, by drgn and by crash: each has to see in it what vm.k saw in the machine.
local ffi = require "ffi"
local ktstr = require "ktstr"
local address = require "ktstr.kernel.address"
local draw = require "tests.dump.draw"
local files = require "ktstr.files"
local process = require "ktstr.process"

ffi.cdef "unsigned long long strtoull(const char *text, char **end, int base);"

local path = os.getenv "KTSTR_DUMP"
local SYMBOLS, MOST_OF_TEXT = 100, 550 -- drawn; characters of a line in a message

local core, k, live, seed
local debuggers, vmlinux, why_not, told

-- The words of each line that begins with a kind, in their order.
local function read_lines(text)
  local found = setmetatable({}, {
    __index = function(self, kind)
      self[kind] = {}
      return self[kind]
    end,
  })
  for line in text:gmatch "[^\n]+" do
    local words = {}
    for word in (line .. "\t"):gmatch "(.-)\t" do
      words[#words + 1] = word
    end
    table.insert(found[table.remove(words, 1)], words)
  end
  return found
end

local function script(...)
  local result = process.run { "scripts/debuggers", ... }
  return result.status == 0 and result.stdout:match "[^\n]+" or nil, result.stderr
end

local function number(text)
  return ffi.C.strtoull(text, nil, text:match "^0x" and 16 or 10)
end

-- Where drgn and crash are, and the kernel's types for them; else why not.
local function find_debuggers()
  local message
  debuggers, message = script()
  if debuggers then
    vmlinux, message = script("vmlinux", core.release)
  end
  if not debuggers or not vmlinux then
    why_not = "no debuggers to compare with: " .. (message:match "([^\n]*)\n*$")
  end
end

-- --- what is asked ---

-- Symbols whose name is theirs alone, and which have a place of their own.
local function drawn_symbols()
  local list, set = {}, k:_ready().symbols
  while #list < SYMBOLS do
    local symbol = set:get(math.random(0, set:count() - 1))
    if symbol.moves and #set:find(symbol.name) == 1 then
      list[#list + 1] = { symbol.name, address.hex(address.raw(k:symbol(symbol.name))) }
    end
  end
  return list
end

local function seen_tasks()
  local list = {}
  for task in k:tasks() do
    local comm = task.comm:gsub(".", function(byte)
      return ("%02x"):format(byte:byte())
    end)
    list[#list + 1] = { tostring(task.pid), comm, (k:task_state(task)), tostring(k:task_cpu(task)) }
  end
  return list
end

-- Of the tasks that sleep: who runs has its calls in registers, and a zombie's stack is not its own any more
-- (drgn reads on in what was given back).
local function seen_stacks()
  local list = {}
  for task in k:tasks() do
    if task.on_cpu == 0 and task.stack ~= k.null then
      local places = {}
      for i, frame in ipairs(k:backtrace(task)) do
        places[i] = address.hex(address.raw(frame.address))
      end
      list[#list + 1] = { tostring(task.pid), table.concat(places, " ") }
    end
  end
  return list
end

local expected

local function ask_drgn()
  local questions = {}
  for _, kind in ipairs { "field", "symbol", "stack" } do
    for _, words in ipairs(expected[kind]) do
      questions[#questions + 1] = kind .. "\t" .. table.concat(words, "\t")
    end
  end
  local asked = path .. ".asked"
  files.write(asked, table.concat(questions, "\n") .. "\n")
  local result = process.run { debuggers .. "/bin/python3", "tests/dump/fields.py", path, vmlinux, asked }
  os.remove(asked)
  assert(result.status == 0, result.stderr)
  return read_lines(result.stdout)
end

setup(function()
  if not path then
    return
  end
  core = ktstr.vmcore(path)
  k = core.k
  live = read_lines(files.read(path .. ".fields"))
  seed = tonumber(live.seed[1][1])
  math.randomseed(seed)
  print("# seed " .. seed)
  find_debuggers()
  expected = { field = live.field, symbol = drawn_symbols(), task = seen_tasks(), stack = seen_stacks() }
end)

teardown(function()
  if core then
    core:close()
  end
end)

-- Marks the test as pending where something is missing; true: it is not to go on.
local function is_missing(needs_debuggers)
  if not path then
    pending "KTSTR_DUMP names no core file: scripts/run-tests dump makes one"
  elseif needs_debuggers and why_not then
    pending(why_not)
  else
    return false
  end
  return true
end

-- Two lists of lines: the same, or the first difference is shown.
local function assert_same(kind, ours, theirs)
  assert(#ours > 0, "nothing was compared")
  for i, words in ipairs(ours) do
    local mine, its = table.concat(words, " "), table.concat(theirs[i] or { "nothing" }, " ")
    if mine ~= its then
      error(("%s %d of seed %d: ktstr: %s\nthe other: %s"):format(kind, i, seed, mine:sub(1, MOST_OF_TEXT),
        its:sub(1, MOST_OF_TEXT)), 0)
    end
  end
  assert.equals(#ours, #theirs)
end

describe("ktstr.vmcore", function()
  it("has the fields that the machine had", function()
    if is_missing() then
      return
    end
    local again = {}
    for i, words in ipairs(live.field) do
      local type, place, name = unpack(words)
      local object = k:object(type, address.new(number(place)))
      again[i] = { type, place, name, draw.value(object, name, draw.type(object, name)) }
    end
    assert_same("field", live.field, again)
  end)

  it("has the tasks that the machine had", function()
    if is_missing() then
      return
    end
    assert_same("task", live.task, expected.task)
  end)
end)

local function refused(code, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert.equals(code, e.code, tostring(e))
  return e
end

describe("what ktstr.vmcore cannot do", function()
  it("is to look through a kernel that is not the file's", function()
    if is_missing() then
      return
    end
    for _, kernel in ipairs(require("ktstr.kernels").list()) do
      if kernel.release ~= core.release then
        local other = ktstr.vmcore(path, { kernel = kernel.release })
        refused("unsupported", other.k.symbol, other.k, "init_task")
        other:close()
        return
      end
    end
    pending "no other kernel is cached"
  end)

  it("is to read after it has been closed", function()
    if is_missing() then
      return
    end
    local other = ktstr.vmcore(path)
    local task = other.k:task(1)
    assert.equals(k:task(1).comm, task.comm)
    other:close()
    refused("ended", function()
      return task.comm
    end)
    refused("ended", other.k.var, other.k, "jiffies_64")
  end)

  it("is to open what is no core file, or to guess what is meant", function()
    if is_missing() then
      return
    end
    refused("format", ktstr.vmcore, path .. ".fields")
    refused("not-found", ktstr.vmcore, path .. ".none")
    refused("invalid", ktstr.vmcore, path, { kernal = "7.3" })
    refused("invalid", ktstr.vmcore)
    refused("invalid", core.regs, core, core.topology.cpus)
  end)

  it("is to change the file", function()
    if is_missing() then
      return
    end
    local other = ktstr.vmcore(path)
    local task = other.k:task(1)
    task.comm = "changed"
    assert.equals("changed", task.comm)
    assert.equals("init", k:task(1).comm)
    other:close()
    other = ktstr.vmcore(path)
    assert.equals("init", other.k:task(1).comm)
    other:close()
  end)
end)

describe("drgn", function()
  local function answers(kind)
    told = told or ask_drgn()
    return told[kind]
  end

  for kind, what in pairs { field = "fields drawn at random", symbol = "symbols drawn at random",
    task = "every task's pid, comm, state and CPU", stack = "the calls of every task that sleeps" } do
    it("agrees on " .. what, function()
      if not is_missing(true) then
        assert_same(kind, expected[kind], answers(kind))
      end
    end)
  end

  it("agrees on the runqueues", function()
    if is_missing(true) then
      return
    end
    local ours = {}
    for cpu = 0, core.topology.cpus - 1 do
      local rq = k:per_cpu("runqueues", cpu)
      ours[cpu + 1] = { tostring(cpu), tostring(rq.nr_running), tostring(rq.nr_switches),
        tostring(rq.curr.pid) }
    end
    assert_same("runqueue", ours, answers "rq")
  end)
end)

-- --- addr2line ---

local LINES = 200
local NONE = "??:0"

-- Addresses of code, at random: as the kernel runs and as it is linked.
local function drawn_code()
  local first, last = address.raw(k:symbol "_text"), address.raw(k:symbol "_etext")
  local size, list = tonumber(last - first), {}
  for i = 1, LINES do
    local at = first + math.random(0, size - 1)
    list[i] = { at = at, linked = address.hex(at - k._view.slide) }
  end
  return list
end

-- What it says of each, the innermost first: { { name, file, line }, ... }.
local function ask_addr2line(list)
  local argv = { "addr2line", "-a", "-i", "-f", "-e", vmlinux }
  for _, one in ipairs(list) do
    argv[#argv + 1] = one.linked
  end
  local result = process.run(argv)
  assert(result.status == 0, result.stderr)
  local answers = {}
  local name
  for line in result.stdout:gmatch "[^\n]+" do
    if line:match "^0x%x+$" then
      answers[#answers + 1] = {}
    elseif not name then
      name = line
    else
      local file, number_ = line:match "^(.*):([%d?]+)"
      table.insert(answers[#answers], { name = name, file = file, line = tonumber(number_) or 0 })
      name = nil
    end
  end
  return answers
end

-- Without "x/..", "." and "//".
local function simple(file)
  file = file:gsub("/%./", "/"):gsub("//+", "/")
  local count
  repeat
    file, count = file:gsub("[^/.]+/%.%./", "", 1)
  until count == 0
  return file
end

local function show_places(list)
  local texts = {}
  for i, one in ipairs(list) do
    texts[i] = ("%s %s:%d"):format(one.name or "?", one.file, one.line)
  end
  return #texts > 0 and table.concat(texts, ", ") or NONE
end

local function our_places(source)
  return source and { source, unpack(source.inlined) } or {}
end

-- The function of the symbol table that each of some addresses is in, by address; what is before functions
-- for tracers to patch is none.
local function functions_at(places)
  local result = process.run { "nm", "-S", vmlinux }
  assert(result.status == 0, result.stderr)
  local found = {}
  for start, size, name in result.stdout:gmatch "(%x+) (%x+) [tT] ([^\n]+)" do
    for _, linked in ipairs(places) do
      if not name:match "^__pfx_" and number(linked) - number("0x" .. start) < number("0x" .. size) then
        found[linked] = name
      end
    end
  end
  return found
end

-- Names that it has from the symbol table, or does not demangle as the source has them (Rust's), are no
-- matter.
local function same_place(ours, its)
  return ours.line == its.line and (not ours.name or its.name:match "^_R" ~= nil or ours.name == its.name)
end

describe("addr2line", function()
  it("agrees on the source lines of code drawn at random, and on what is inlined there", function()
    if is_missing(true) then
      return
    end
    local other = ktstr.vmcore(path, { vmlinux = vmlinux })
    local list = drawn_code()
    local with_line, inlined, files_differ, without = 0, 0, 0, {}
    for i, its in ipairs(ask_addr2line(list)) do
      local ours = our_places((other.k:line(list[i].at)))
      local message = ("%s (%s) of seed %d: ktstr: %s\naddr2line: %s"):format(address.hex(list[i].at),
        list[i].linked, seed, show_places(ours), show_places(its))
      if #ours == 0 and its[1].line ~= 0 then
        without[#without + 1] = list[i].linked
      elseif #ours > 0 then
        assert(#ours == #its, message)
        with_line = with_line + 1
        inlined = inlined + (#ours > 1 and 1 or 0)
        for at, place in ipairs(ours) do
          assert(same_place(place, its[at]), message)
          if simple(its[at].file):sub(-#place.file) ~= place.file then
            files_differ = files_differ + 1
          end
        end
      end
    end
    other:close()
    -- It has lines for what is between functions, too: those of the one before.
    assert.same({}, functions_at(without))
    assert(with_line > LINES / 3 and inlined > 0, "too few of the addresses have a line")
    -- binutils before 2.41 names the unit's own file for some lines of its headers.
    assert(files_differ <= with_line / 20, ("%d files of seed %d differ"):format(files_differ, seed))
  end)
end)

-- --- crash ---

local function is_number(text)
  return text:sub(1, 1) ~= draw.TEXT
end

-- Whether gdb's hexadecimal of a value of some size is that value: a negative one has no bits beyond that.
local function is_value(ours, theirs)
  local mine, its = bit.tohex(number(ours)), theirs:gsub("^0x", "")
  if ours:sub(1, 1) ~= "-" then
    return mine == ("0"):rep(16 - #its) .. its
  end
  return #its <= 16 and mine:sub(-#its) == its
end

local function ask_crash(commands)
  local input = path .. ".commands"
  files.write(input, "set scroll off\n" .. table.concat(commands, "\n") .. "\nexit\n")
  local result = process.run({ debuggers .. "/bin/crash", "-s", "-i", input, vmlinux, path },
    { stderr = "stdout", env = { HOME = "/nonexistent" } })
  os.remove(input)
  assert(result.status == 0, result.stdout)
  return result.stdout
end

describe("crash", function()
  it("agrees on the fields, and on all tasks", function()
    if is_missing(true) then
      return
    end
    local commands, numbers = {}, {}
    for _, words in ipairs(live.field) do
      if is_number(words[4]) then
        numbers[#numbers + 1] = words
        commands[#commands + 1] = ("p/x ((%s *)%s)->%s"):format(unpack(words))
      end
    end
    commands[#commands + 1] = "ps"
    local text = ask_crash(commands)
    local count = 0
    for value in text:gmatch "%$%d+ = ([^\n]*)" do
      count = count + 1
      local words = numbers[count]
      assert(words and is_value(words[4], value:match "^0x%x+" or value),
        ("field %d of seed %d: ktstr: %s\ncrash: %s"):format(count, seed, table.concat(words or {}, " "),
          value))
    end
    assert.equals(#numbers, count)
    local ours, theirs = {}, {}
    for task in k:tasks() do
      ours[task.pid] = address.hex(address.raw(task)):sub(3)
    end
    for pid, place in text:gmatch "\n[> ] *(%d+) +%d+ +%d+ +(%x+) +%u" do
      theirs[tonumber(pid)] = pid ~= "0" and place or nil
    end
    assert.same(ours, theirs)
  end)
end)
