local kernel_log = require "tests.vm.kernel_log"

local only_in = kernel_log.complaints_only_in

describe("a comparison of kernel logs", function()
  it("finds warnings and worse, and what complains at a lower level", function()
    local lines = {
      "<4>[    0.100000] clocksource: timekeeping watchdog: marked",
      "<3>[    0.200000] something",
      "<6>[    0.300000] ACPI BIOS Error (bug): Could not resolve symbol [_SB.X]",
      "<7>[    0.400000] SRAT: Invalid",
      "<6>[    0.500000] tsc: Marking TSC unstable due to TSCs unsynchronized",
      "<30>[    0.600000] pci_bus 0000:00: unknown",
    }
    assert.same(lines, only_in(table.concat(lines, "\n") .. "\n", ""))
  end)

  it("leaves what does not complain", function()
    assert.same({}, only_in("<6>[    0.000000] tsc: Detected 2100.000 MHz processor\r\n"
      .. "<6>[    1.000000] debugfs: in a debug build by default\n"
      .. "<30>[    3.000000] facility 3, level 6\n", ""))
  end)

  it("leaves what the other guest says too, whatever its numbers", function()
    local theirs = "<6>[    1.500000] tsc: Marking TSC unstable due to TSCs unsynchronized\n"
      .. "<4>[   12.000000] pci 0000:00:1f.0: BAR 7 [io  0x0600-0x067f]: conflict\n"
    local ours = "<6>[    0.400000] tsc: Marking TSC unstable due to TSCs unsynchronized\n"
      .. "<4>[    7.000000] pci 0000:00:02.3: BAR 0 [io  0x1000-0x10ff]: conflict\n"
      .. "<4>[    7.000000] pci 0000:00:02.3: BAR 0 [mem 0x1000-0x10ff]: conflict\n"
    assert.same({ "<4>[    7.000000] pci 0000:00:02.3: BAR 0 [mem 0x1000-0x10ff]: conflict" },
      only_in(ours, theirs))
  end)

  it("finds each complaint once", function()
    assert.equals(1, #only_in("<4>[    0.1] APIC: CPU 1 broken\n<4>[    0.2] APIC: CPU 2 broken\n", ""))
  end)

  it("excuses whole lines alone", function()
    assert.same({}, only_in("<4>[   13.381353] hrtimer: interrupt took 11187273 ns\n", ""))
    assert.equals(1, #only_in("<4>[   13.381353] hrtimer: interrupt took 11187273 ns: tsc\n", ""))
  end)

  it("refuses what is no kernel log", function()
    assert.has_error(function()
      only_in("Linux version 7.3\n", "")
    end)
  end)
end)
