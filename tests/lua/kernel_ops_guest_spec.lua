-- What a guest's programs ask for, without a machine: requests as they come in frames, and their answers.
local ffi = require "ffi"
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local fake_kernel = require "tests.lua.fake_kernel"
local fake_ops = require "tests.lua.fake_ops"
local ops = require "ktstr.ops"

local new = fake_ops.new
local wire = core.wire
local IMAGE, DIRECT = fake_kernel.IMAGE, fake_kernel.DIRECT
local JIFFIES, SOME_INT = IMAGE + 0x2000, IMAGE + 0x2060

local function request(id, cold, entries)
  local head = ffi.string(ffi.new("uint32_t[2]", id, cold and 1 or 0), 8)
  return head .. wire.pack(entries)
end

-- Serves a request; its answer as { id, status, done, attributes }.
local function serve(fake, payload, claimed)
  local answers = {}
  local machine = fake.vm.machine
  function machine.claim_kernel_op(_, token)
    assert.equals(77, token)
    return claimed ~= false
  end
  function machine.answer_kernel_op(_, token, answer)
    assert.equals(77, token)
    answers[#answers + 1] = answer
  end
  ops.serve(fake.vm, { token = 77, payload = payload })
  if claimed == false then
    assert.same({}, answers)
    return nil
  end
  assert.equals(1, #answers)
  local head = ffi.cast("const uint32_t *", answers[1])
  return { id = head[0], status = head[1], done = head[2], attributes = wire.unpack(answers[1]:sub(13)) }
end

describe("a guest's request", function()
  it("is carried out, and answered entry by entry", function()
    local fake = new()
    fake:put(JIFFIES, "uint64_t", 1000)
    fake:put(SOME_INT, "int32_t", -3)
    local got = serve(fake, request(9, false, {
      { "KERNEL_OP", wire.KERNEL_OP_READ }, { "SYMBOL", "jiffies_64" },
      { "KERNEL_OP", wire.KERNEL_OP_WRITE }, { "ADDRESS", ffi.string(ffi.new("uint64_t[1]", JIFFIES), 8) },
      { "TYPE", "u64" }, { "VALUE", 2000 },
      { "KERNEL_OP", wire.KERNEL_OP_READ }, { "SYMBOL", "some_int" }, { "TYPE", "bytes" }, { "LENGTH", 2 },
      { "KERNEL_OP", wire.KERNEL_OP_OR }, { "SYMBOL", "some_int" }, { "VALUE", 2 },
    }))
    assert.same({ id = 9, status = wire.KERNEL_OP_DONE, done = 4, attributes = {
      { "VALUE", 1000 }, { "WRITTEN", true }, { "DATA", "\253\255" }, { "VALUE", 2 ^ 32 - 3 },
    } }, got)
    assert.equals(2000, fake.k:u64(JIFFIES))
  end)

  it("gets a signed value as one", function()
    local fake = new()
    fake:put(DIRECT, "int32_t", -3)
    local got = serve(fake, request(9, false, {
      { "KERNEL_OP", wire.KERNEL_OP_READ }, { "ADDRESS", ffi.string(ffi.new("uint64_t[1]", DIRECT), 8) },
      { "STRUCT", "struct task" }, { "FIELD", "pid" },
    }))
    assert.same({ { "SIGNED", 2 ^ 64 } }, got.attributes) -- as a double has it
    assert.equals(1, got.done)
  end)

  it("that fails half-way says at which entry, and why", function()
    local fake = new()
    local got = serve(fake, request(3, true, {
      { "KERNEL_OP", wire.KERNEL_OP_WRITE }, { "SYMBOL", "jiffies_64" }, { "VALUE", 5 },
      { "KERNEL_OP", wire.KERNEL_OP_READ }, { "SYMBOL", "no_such_symbol" },
      { "KERNEL_OP", wire.KERNEL_OP_WRITE }, { "SYMBOL", "jiffies_64" }, { "VALUE", 6 },
    }))
    assert.same({ 3, wire.KERNEL_OP_FAILED, 1 }, { got.id, got.status, got.done })
    assert.same({ "WRITTEN", true }, got.attributes[1])
    assert.matches("^entry 2, no_such_symbol: the kernel has no symbol", got.attributes[2][2])
    assert.equals(5, fake.k:u64(JIFFIES))
    assert.is_true(fake.cold[1])
  end)

  it("is told that the freeze is somebody else's", function()
    local fake = new()
    fake.busy = true
    local entries = { { "KERNEL_OP", wire.KERNEL_OP_WRITE }, { "SYMBOL", "jiffies_64" }, { "VALUE", 5 } }
    local got = serve(fake, request(3, true, entries))
    assert.same({ wire.KERNEL_OP_BUSY, 0 }, { got.status, got.done })
    assert.equals(0, fake.k:u64(JIFFIES))
    assert.equals(wire.KERNEL_OP_DONE, serve(fake, request(3, false, entries)).status)
  end)

  it("that was answered for lack of time is not carried out", function()
    local fake = new()
    serve(fake, request(3, false, { { "KERNEL_OP", wire.KERNEL_OP_WRITE }, { "SYMBOL", "jiffies_64" },
      { "VALUE", 5 } }), false)
    assert.equals(0, fake.k:u64(JIFFIES))
  end)

  it("is answered whatever is wrong with it, and with the kernel", function()
    local fake = new()
    local read = { { "KERNEL_OP", wire.KERNEL_OP_READ }, { "SYMBOL", "jiffies_64" } }
    local got = serve(fake, "\5\0\0\0")
    assert.same({ 0, wire.KERNEL_OP_FAILED, 0 }, { got.id, got.status, got.done })
    got = serve(fake, request(4, false, { { "KERNEL_OP", wire.KERNEL_OP_READ }, { "SYMBOL", "some_int" },
      { "TYPE", "u31" } }))
    assert.matches("there is no type 'u31'", got.attributes[1][2], 1, true)
    fake.k._image.types = nil
    got = serve(fake, request(4, false, { { "KERNEL_OP", wire.KERNEL_OP_READ }, { "TASK", 1 },
      { "FIELD", "pid" } }))
    assert.matches("without types", got.attributes[1][2], 1, true)
    function fake.k._ready()
      errors.raise("unsupported", "nothing is known of this kernel")
    end
    got = serve(fake, request(4, false, read))
    assert.same({ 4, wire.KERNEL_OP_FAILED, 0, "nothing is known of this kernel" },
      { got.id, got.status, got.done, got.attributes[1][2] })
    -- Who interrupts the script is not held up by a guest; and the guest is told.
    function fake.k._ready()
      errors.raise("interrupted", "interrupted by a signal")
    end
    assert.has_error(function()
      serve(fake, request(4, false, read))
    end)
  end)

  it("is answered even when its values cannot be put into an answer", function()
    local fake = new()
    local payload = request(6, false, { { "KERNEL_OP", wire.KERNEL_OP_READ }, { "SYMBOL", "jiffies_64" } })
    local pack = wire.pack
    finally(function()
      wire.pack = pack
    end)
    function wire.pack()
      wire.pack = pack
      errors.raise("no-memory", "out of memory")
    end
    local got = serve(fake, payload)
    assert.same({ 6, wire.KERNEL_OP_FAILED, 0, { "REASON", "out of memory" } },
      { got.id, got.status, got.done, got.attributes[1] })
  end)

  it("names fields as scripts do", function()
    local fake = new()
    fake:put(DIRECT, "int32_t", -3)
    fake:put(DIRECT + 0x40, "uint32_t", 0x5f0)
    local function read(struct, field, at)
      return { "KERNEL_OP", wire.KERNEL_OP_READ }, { "ADDRESS", ffi.string(ffi.new("uint64_t[1]", at), 8) },
        { "STRUCT", struct }, { "FIELD", field }
    end
    local entries = { read("struct task", "none|pid", DIRECT) }
    for _, name in ipairs { "signed_", "yes", "shade" } do
      for _, attribute in ipairs { read("struct bits", name, DIRECT + 0x40) } do
        entries[#entries + 1] = attribute
      end
    end
    local got = serve(fake, request(9, false, entries))
    assert.same({ wire.KERNEL_OP_DONE, 4 }, { got.status, got.done })
    assert.same({ { "SIGNED", 2 ^ 64 }, { "SIGNED", 2 ^ 64 }, { "VALUE", 1 }, { "VALUE", 5 } },
      got.attributes)
  end)

  it("is answered whatever names a hostile guest gives", function()
    local fake = new()
    local structs = { "struct task", "struct x[-1]", "int [99999999999999999999999]", "*", " * * ",
      "int (*)(void)", ("x"):rep(127), "int [0]", "int[]", "[3]", " ", "struct", "struct task [2][3][4]",
      "unsigned int [4294967296]", "%s", "void", "unsigned int[2][99999999]", "a\nb", "int [nan]" }
    local fields = { "|", "||||", ("a|"):rep(120) .. "a", "[0]", "[999999]", ("[0]"):rep(80), ("a."):rep(100),
      "[", "]", "%d", "\255", " ", ".", "parent" .. (".parent"):rep(30), "pid|pid[" }
    local failed = 0
    for _, struct in ipairs(structs) do
      for _, field in ipairs(fields) do
        local got = serve(fake, request(9, false, { { "KERNEL_OP", wire.KERNEL_OP_READ },
          { "ADDRESS", ffi.string(ffi.new("uint64_t[1]", DIRECT), 8) }, { "STRUCT", struct },
          { "FIELD", field } }))
        assert.equals(9, got.id)
        if got.status ~= wire.KERNEL_OP_DONE then
          failed = failed + 1
          assert.matches("^entry 1, 0xffff888000000000", got.attributes[1][2])
        end
      end
    end
    assert.is_true(failed >= #structs * (#fields - 3) and failed < #structs * #fields)
  end)

  it("cannot have more bytes than an answer holds", function()
    local fake = new()
    local entries = {}
    for _ = 1, 129 do
      for _, attribute in ipairs { { "KERNEL_OP", wire.KERNEL_OP_READ },
        { "ADDRESS", ffi.string(ffi.new("uint64_t[1]", DIRECT), 8) }, { "STRUCT", "struct task" } } do
        entries[#entries + 1] = attribute
      end
    end
    local got = serve(fake, request(4, false, entries))
    assert.same({ wire.KERNEL_OP_FAILED, 128 }, { got.status, got.done })
    assert.matches("entry 129, .*at most 32768 bytes", got.attributes[129][2])
  end)
end)
