-- The kernel's log from outside, against the guest's dmesg.
local ffi = require "ffi"
local kernel_guest = require "tests.vm.kernel_guest"

local guest, vm, k

setup(function()
  guest = kernel_guest.boot { topology = "1n1l1c1t" }
  vm, k = guest.vm, guest.k
end)

teardown(function()
  if vm then
    vm:kill()
  end
end)

after_each(function()
  guest:stop_programs()
end)

-- f() twice, with the guest's own account in between, until the log was not written to meanwhile.
local function between(f, ask)
  for _ = 1, 20 do
    local before = f()
    local told = ask(before)
    if before == f() then
      return before, told
    end
  end
  error "the log never stood still"
end

local function seen_log()
  return k:dmesg()
end

local function told_log()
  return guest:sh "dmesg"
end

-- A record as /dev/kmsg has it: "priority,sequence,microseconds,", the text, and what is known of a device.
local function kmsg(record)
  local text = record.text:gsub("[%c\\\127-\255]", function(byte)
    return ("\\x%02x"):format(byte:byte())
  end)
  local microseconds = tostring(ffi.cast("uint64_t", record.time) / 1000):gsub("ULL", "")
  return ("%d,%.0f,%s;%s\n"):format(record.facility * 8 + record.level, record.sequence, microseconds, text)
    .. (record.subsystem and " SUBSYSTEM=" .. record.subsystem .. "\n" or "")
    .. (record.device and " DEVICE=" .. record.device .. "\n" or "")
end

local function seen_records()
  local lines = {}
  for record in k:printk_records() do
    lines[#lines + 1] = kmsg(record)
  end
  return table.concat(lines)
end

-- The same of the guest. Its flags ('-' or 'c') are no part of a record here.
local function told_records(expected)
  local _, lines = expected:gsub("\n", "")
  return (guest:sh(("head -n %d /dev/kmsg"):format(lines)):gsub("(%d),[-c];", "%1;"))
end

-- That two texts are the same; says where they begin to differ, since they are long.
local function assert_same_lines(expected, found)
  if expected == found then
    return
  end
  local next_found = found:gmatch "[^\n]*\n"
  local number = 0
  for line in expected:gmatch "[^\n]*\n" do
    number = number + 1
    assert.equals(line, next_found() or "", "line " .. number)
  end
  assert.equals(#expected, #found)
end

-- Writes so many lines into the log, of lengths that differ, some with a newline within.
local function write_log(count)
  guest:sh(([[
    echo on >/proc/sys/kernel/printk_devkmsg
    line= i=0
    while [ $i -lt %d ]; do
      line=$line$i
      [ ${#line} -gt 300 ] && line=x
      echo "<$((i %% 8))>$i $line" >/dev/kmsg
      [ $((i %% 10)) = 0 ] && printf 'first\nsecond\ttab' >/dev/kmsg
      i=$((i + 1))
    done]]):format(count))
end

describe("k:dmesg", function()
  it("is the guest's, line by line", function()
    write_log(50)
    local seen, told = between(seen_log, told_log)
    assert_same_lines(told, seen)
    assert.equals("[    0.000000] Linux version " .. vm.release, seen:sub(1, 29 + #vm.release))
    assert.matches("\n%[ *[%d%.]+%] first\n%[ *[%d%.]+%] second\ttab\n", seen)
  end)

  it("has every record of /dev/kmsg, with device, level and time", function()
    local seen, told = between(seen_records, told_records)
    assert_same_lines(told, seen)
    assert.matches("\n SUBSYSTEM=pci\n DEVICE=%+pci:", seen)
  end)

  it("is so after the ring has gone around", function()
    write_log(1500)
    local seen, told = between(seen_records, told_records)
    assert_same_lines(told, seen)
    assert.is_nil(seen:find("Linux version", 1, true))
    -- Of a log that is longer than its buffer with all prefixes, dmesg shows the end.
    seen, told = between(seen_log, told_log)
    assert_same_lines(told, seen:sub(-#told))
    assert.is_true(#told > 100000)
  end)

  it("says who wrote", function()
    local program = vm:exec { "sh", "-c", "echo $$; echo '<3>an error of the spec' >/dev/kmsg" }
    local found
    for record in k:printk_records() do
      if record.text == "an error of the spec" then
        found = record
      end
    end
    assert.equals("T" .. program.stdout, found.caller .. "\n")
    assert.equals(3, found.level)
  end)
end)
