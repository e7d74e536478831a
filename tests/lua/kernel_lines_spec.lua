-- Source lines: a small program, compiled here, stands for the vmlinux of a kernel made by hand.
local address = require "ktstr.kernel.address"
local errors = require "ktstr.errors"
local fake_kernel = require "tests.lua.fake_kernel"
local files = require "ktstr.files"
local lines = require "ktstr.kernel.lines"
local process = require "ktstr.process"
local sandbox = require "tests.lua.sandbox"

local IMAGE, SLIDE = fake_kernel.IMAGE, fake_kernel.SLIDE
local NOTES = IMAGE + 0x8000
local SCHEDULE = IMAGE + 0x100 -- the fake kernel's
local OWN, OTHER = ("01"):rep(20), ("ab"):rep(20)

-- schedule() is 15 bytes of nop from line 7 on, with 4 of an inlined function's in between.
local CORE = [[
static inline __attribute__((always_inline)) void pick(void)
{
	asm volatile(".nops 4");
}
void schedule(void)
{
	asm volatile(".nops 5");
	pick();
	asm volatile(".nops 6");
}
]]

local box = sandbox.sandbox()
local tree = box.directory .. "/tree"

local function compile(out, build_id, ...)
  local command = { "gcc", "-O1", "-w", "-ffreestanding", "-fno-pie", "-mcmodel=kernel",
    "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-nostdlib", "-static", "-no-pie", "-Wl,-e,0",
    "-Wl,--build-id=0x" .. build_id, "-Wl,-Ttext=0x" .. bit.tohex(SCHEDULE - SLIDE), "kernel/core.c",
    "init/main.c", "-o", out, ... }
  local result = process.run({ "sh", "-c", 'cd "$0" && exec "$@"', tree, unpack(command) })
  assert(result.status == 0, result.stderr)
end

setup(function()
  files.make_directory(tree)
  files.make_directory(tree .. "/kernel")
  files.make_directory(tree .. "/init")
  files.write(tree .. "/kernel/core.c", CORE)
  files.write(tree .. "/init/main.c", "void start_kernel(void)\n{\n}\n")
  compile("vmlinux", OWN, "-g")
  compile("other", OTHER, "-g")
  compile("stripped", OWN, "-g0")
  files.write(tree .. "/cut", files.read(tree .. "/vmlinux"):sub(1, -100))
end)

teardown(function()
  box.undo()
end)

before_each(function()
  box.setenv("KTSTR_VMLINUX", nil)
end)

local function bytes_of(id)
  return (id:gsub("%x%x", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- A machine whose kernel is of that build; nil: it does not say of which. The second value is its memory.
local function machine(id)
  local fake = fake_kernel.new()
  local k = fake.k
  if id then
    -- Another note first, whose name and text are padded.
    local notes = "\6\0\0\0\3\0\0\0\0\1\0\0Linux\0\0\0abc\0"
      .. "\4\0\0\0\20\0\0\0\3\0\0\0GNU\0" .. bytes_of(id)
    fake:put_string(NOTES, notes)
    for name, at in pairs { __start_notes = NOTES, __stop_notes = NOTES + #notes } do
      table.insert(k._image.symbols, { name = name, address = at - SLIDE, kind = "R", moves = true })
    end
  end
  return k, fake
end

local function refused(code, text, f, ...)
  local ok, e = pcall(f, ...)
  assert(not ok, "nothing was raised")
  assert(errors.is(e, code), tostring(e))
  assert.matches(text, e.message, 1, true)
end

describe("k:line", function()
  it("says which line the code at an address is of, wherever KASLR has put it", function()
    local k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/vmlinux"
    local found = k:line(SCHEDULE + 2)
    assert.equal("kernel/core.c", found.file)
    assert.equal(7, found.line)
    assert.equal("schedule", found.name)
    assert.is_true(found.column > 0)
    assert.equal(0, #found.inlined)
    assert.equal("kernel/core.c:7", tostring(found))
    assert.equal(9, k:line(address.new(SCHEDULE + 10)).line)
  end)

  it("takes a function's name", function()
    local k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/vmlinux"
    assert.equal(k:line(SCHEDULE).line, k:line("schedule").line)
    refused("not-found", "schedulf", k.line, k, "schedulf")
    refused("invalid", "not an address", k.line, k, {})
  end)

  it("takes no object of another machine, nor one from before a thaw; nor does k:disassemble", function()
    local k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/vmlinux"
    local other, old = machine(OWN):object("struct task", SCHEDULE), k:object("struct task", SCHEDULE)
    assert.equal(7, k:line(old).line)
    for _, f in ipairs { k.line, k.disassemble } do
      refused("invalid", "of another machine", f, k, other)
    end
    fake:thaw()
    for _, f in ipairs { k.line, k.disassemble } do
      refused("stale", "has run since", f, k, old)
    end
  end)

  it("says what is inlined there, and where", function()
    local k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/vmlinux"
    local found = k:line(SCHEDULE + 6)
    assert.equal("pick", found.name)
    assert.equal(3, found.line)
    assert.equal(1, #found.inlined)
    assert.equal("schedule", found.inlined[1].name)
    assert.equal(8, found.inlined[1].line)
    assert.equal("kernel/core.c:3 (pick, inlined at kernel/core.c:8)", tostring(found))
    assert.same({ "kernel/core.c:3 (pick, inlined)", "kernel/core.c:8" }, lines.text(found))
    assert.same({ "kernel/core.c:7" }, lines.text(k:line(SCHEDULE)))
    assert.same({}, lines.text(nil))
  end)

  it("is nil, and says why, where there is no line", function()
    local k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/vmlinux"
    local found, why = k:line(IMAGE + 0x3000)
    assert.is_nil(found)
    assert.matches("no line for 0xffffffff81003000", why, 1, true)
    -- Where the image would be without KASLR there is nothing.
    assert.is_nil((k:line(SCHEDULE - SLIDE)))
    assert.is_nil((k:line(0)))
  end)
end)

describe("a vmlinux that is named", function()
  it("has to be the kernel's", function()
    local k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/other"
    refused("unsupported", "its build ID is " .. OTHER, k.line, k, "schedule")
    refused("unsupported", "the kernel's is " .. OWN, k.line, k, "schedule")
    fake.vm.vmlinux = tree .. "/stripped"
    refused("unsupported", "no debugging information", k.line, k, "schedule")
    fake.vm.vmlinux = tree .. "/cut"
    refused("format", "cut short", k.line, k, "schedule")
    fake.vm.vmlinux = tree .. "/none"
    refused("not-found", tree .. "/none", k.line, k, "schedule")
    fake.vm.vmlinux = tree .. "/vmlinux"
    assert.equal(7, k:line("schedule").line)
  end)

  it("can be named by the environment, which the option goes before", function()
    local k, fake = machine(OWN)
    box.setenv("KTSTR_VMLINUX", tree .. "/other")
    refused("unsupported", "KTSTR_VMLINUX: " .. tree .. "/other", k.line, k, "schedule")
    fake.vm.vmlinux = tree .. "/vmlinux"
    assert.equal(7, k:line("schedule").line)
    k, fake = machine(OWN)
    box.setenv("KTSTR_VMLINUX", tree .. "/vmlinux")
    assert.equal(7, k:line("schedule").line)
    assert.is_nil(fake.vm.vmlinux)
  end)

  it("is of no use for a kernel that does not say its build", function()
    local k, fake = machine(nil)
    fake.vm.vmlinux = tree .. "/vmlinux"
    refused("unsupported", "does not say its build ID", k.line, k, "schedule")
  end)

  it("has to be there when a machine is booted", function()
    local kernels = require "ktstr.kernels"
    refused("not-found", "there is no vmlinux '/no/such'", kernels.vmlinux, "/no/such")
    refused("not-found", "there is no vmlinux", kernels.vmlinux, tree)
    assert.equal(tree .. "/vmlinux", kernels.vmlinux(tree .. "/../tree/vmlinux"))
    assert.is_nil(kernels.vmlinux(nil))
  end)
end)

describe("a vmlinux that is not named", function()
  local function found_for(plan, release)
    local k, fake = machine(OWN)
    fake.vm.plan, fake.vm.release = plan, release
    local found, why = k:line "schedule"
    return found and found.line, why
  end

  it("is the kernel's own, or beside it", function()
    assert.equal(7, (found_for { kernel = { path = tree .. "/vmlinux" } }))
    assert.equal(7, (found_for { kernel = { path = tree .. "/bzImage" } }))
    assert.equal(7, (found_for { kernel = { path = tree .. "/arch/x86/boot/bzImage", tree = tree } }))
    assert.equal(7, (found_for { given = { kernel = tree } }))
    files.make_directory(box.directory .. "/boot")
    files.write(box.directory .. "/boot/vmlinux-9.9", files.read(tree .. "/vmlinux"))
    assert.equal(7, (found_for({ kernel = { path = box.directory .. "/boot/vmlinuz-9.9" } }, "9.9")))
    assert.is_nil((found_for({ kernel = { path = box.directory .. "/boot/vmlinuz-9.9" } }, "9.8")))
  end)

  it("is passed over where it is another build's, stripped or damaged", function()
    for _, name in ipairs { "other", "stripped", "cut" } do
      local line, why = found_for { kernel = { path = tree .. "/bzImage", vmlinux = tree .. "/" .. name } }
      assert.equal(7, line) -- of the next place
      assert.is_nil(why)
      files.write(box.directory .. "/vmlinux", files.read(tree .. "/" .. name))
      line, why = found_for { kernel = { path = box.directory .. "/bzImage" } }
      assert.is_nil(line)
      assert.matches("no vmlinux with DWARF", why, 1, true)
    end
  end)

  it("is not looked for where the kernel does not say its build", function()
    local k, fake = machine(nil)
    fake.vm.plan = { kernel = { path = tree .. "/vmlinux" } }
    local found, why = k:line "schedule"
    assert.is_nil(found)
    assert.matches("does not say its build ID", why, 1, true)
  end)
end)

describe("what is shown with lines", function()
  it("has its line when it is asked for, and only then", function()
    local k, fake = machine(OWN)
    local asked = 0
    local one = setmetatable({}, lines.late(k, function()
      asked = asked + 1
      return SCHEDULE + 6
    end))
    fake.vm.vmlinux = tree .. "/vmlinux"
    assert.equal(0, asked)
    assert.equal("pick", one.source.name)
    assert.equal("pick", one.source.name)
    assert.equal(1, asked)
    assert.is_nil(one.other)
  end)

  it("is disassembled code", function()
    local k, fake = machine(OWN)
    for i = 0, 14 do
      fake:put(SCHEDULE + i, "uint8_t", 0x90)
    end
    local plain = tostring(k:disassemble("schedule", 10))
    assert.is_nil(plain:find("core.c", 1, true))
    k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/vmlinux"
    for i = 0, 14 do
      fake:put(SCHEDULE + i, "uint8_t", 0x90)
    end
    local list = k:disassemble("schedule", 10)
    assert.equal(7, list[1].source.line)
    local shown = {}
    for line in tostring(list):gmatch "[^\n]+" do
      shown[#shown + 1] = line:match "^kernel.*" or "code"
    end
    assert.same({ "kernel/core.c:7", "code", "code", "code", "code", "code",
      "kernel/core.c:3 (pick, inlined at kernel/core.c:8)", "code", "code", "code", "code", "kernel/core.c:9",
      "code" }, shown)
  end)

  -- A CPU was interrupted in one function, which two others have called: found by the frame pointer.
  local function put_stack(fake)
    local stack = fake_kernel.DIRECT + 0x3000
    local function put(at, caller, code)
      fake:put(stack + at, "uint64_t", stack + caller)
      fake:put(stack + at + 8, "uint64_t", SCHEDULE + code)
    end
    put(0x10, 0x40, 9)
    put(0x40, 0x80, 5)
    fake.vm.regs = function()
      return { rip = SCHEDULE + 9, rsp = stack, rbp = stack + 0x10, cs = { selector = 0x10 }, rax = 0ULL,
        rdx = 0ULL, rdi = 0ULL, r10 = 0ULL, r13 = 0ULL }
    end
  end

  it("is a backtrace: of a call the line is the call's, not that after it", function()
    local k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/vmlinux"
    put_stack(fake)
    local trace = k:backtrace(0)
    assert.equal(9, trace[1].source.line)
    assert.equal("pick", trace[2].source.name)
    assert.equal(8, trace[2].source.inlined[1].line)
    assert.equal(7, trace[3].source.line)
    local shown = {}
    for line in tostring(trace):gmatch "[^\n]+" do
      shown[#shown + 1] = line:match "^       (kernel.*)"
    end
    assert.same({ "kernel/core.c:9", "kernel/core.c:3 (pick, inlined)", "kernel/core.c:8",
      "kernel/core.c:7" }, shown)
  end)

  it("is what the commands of the prompt print", function()
    local commands = require "ktstr.repl.commands"
    require "ktstr.repl.memory_commands"
    require "ktstr.repl.task_commands"
    local k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/vmlinux"
    put_stack(fake)
    fake.vm.is_frozen = function()
      return true
    end
    local session = {
      kernel = function()
        return k
      end,
      machine = function()
        return fake.vm
      end,
    }
    local function run(line)
      local command, arguments = commands.parse(line, {})
      return command.run(session, unpack(arguments))
    end
    assert.equal(bit.tohex(SCHEDULE) .. " (T) schedule  kernel/core.c:7", run "sym schedule")
    assert.matches("schedule%+0x6  kernel/core.c:3 %(pick, inlined at kernel/core.c:8%)$",
      run("sym " .. bit.tohex(SCHEDULE + 6)))
    assert.equal(bit.tohex(IMAGE + 0x1000) .. " (D) init_task", run "sym init_task")
    local shown = {}
    for line in run("bt -c 0"):gmatch "[^\n]+" do
      shown[#shown + 1] = line:match "^    (kernel.*)"
    end
    assert.same({ "kernel/core.c:9", "kernel/core.c:3 (pick, inlined)", "kernel/core.c:8",
      "kernel/core.c:7" }, shown)
  end)

  -- What f writes to stderr, piece by piece.
  local function warnings(f)
    local written = {}
    local stderr = io.stderr
    -- luacheck: push ignore 122
    io.stderr = { write = function(_, ...)
      written[#written + 1] = table.concat { ... }
    end }
    local ok, e = pcall(f)
    io.stderr = stderr
    -- luacheck: pop
    assert(ok, e)
    return written
  end

  it("does without where the file is of no use", function()
    local k, fake = machine(OWN)
    fake.vm.vmlinux = tree .. "/other"
    local written = warnings(function()
      assert.is_nil(lines.beside(k, SCHEDULE))
      assert.is_nil(lines.beside(k, SCHEDULE))
    end)
    assert.equal(1, #written)
    assert.matches("no source lines: .*of another build", written[1])
  end)

  it("of an ended machine has those that it was asked for before, and is no matter for a warning", function()
    for _, is_asked in ipairs { false, true } do
      local k, fake = machine(OWN)
      fake.vm.vmlinux = tree .. "/vmlinux"
      put_stack(fake)
      local trace = k:backtrace(0)
      assert.equal(is_asked and 9 or nil, is_asked and trace[1].source.line or nil)
      fake:finish()
      local text
      assert.same({}, warnings(function()
        text = tostring(trace)
      end))
      assert.equal(is_asked, text:find("kernel/core.c:9", 1, true) ~= nil)
    end
  end)
end)
