-- Where each member of each struct of a kernel lies, and its size: by ours, and by clang, which lays out anew
-- what bpftool writes as C.
local files = require "ktstr.files"
local image = require "ktstr.kernel.image"
local kernels = require "ktstr.kernels"

local cached = kernels.list()
local CLANGS, BPFTOOLS = { "clang-22", "clang" }, { "bpftool", "/usr/sbin/bpftool" }
local NAMED = { "struct task_struct", "struct rq", "struct cfs_rq", "struct sched_entity",
  "struct mm_struct" }

-- The first of the commands that there is, or nil.
local function command(names, option)
  for _, name in ipairs(names) do
    if os.execute(("%s %s >/dev/null 2>&1"):format(name, option)) == 0 then
      return name
    end
  end
end

local clang, bpftool = command(CLANGS, "--version"), command(BPFTOOLS, "version")

local function output(format, ...)
  local line = format:format(...)
  local pipe = assert(io.popen(line .. "; echo status $?"))
  local text = pipe:read "*a"
  pipe:close()
  local out, status = text:match "^(.*)status (%d+)\n$"
  assert(status == "0", ("status %s of: %s"):format(tostring(status), line))
  return out
end

-- --- ours ---

---@class tests.Layout
---@field size integer
---@field members table[] name, offset and bits in bits, size; those of nameless ones, too

local function add_members(list, type, base)
  for _, member in ipairs(type:members()) do
    if member.name ~= "" then
      list[#list + 1] = { name = member.name, offset = base + member.offset, bits = member.bits,
        size = member.type.size }
    elseif member.type:has_members() then
      add_members(list, member.type, base + member.offset)
    end
  end
end

-- All types that have a name in C; what has a tag in front of it, by tag.
local function named_types(set, last)
  local list, tags = {}, {}
  for id = 1, last - 1 do
    local ok, type = pcall(set.type, set, id) -- others are no types
    local kind, tag = (ok and type.name or ""):match "^(%l*) ?([%w_]+)$"
    if kind == "struct" or kind == "union" or kind == "enum" then
      tags[tag] = (tags[tag] or 0) + (type.kind ~= "forward" and type.id == type.own_id and 1 or 0)
    end
    if tag and type:has_members() and (kind == "struct" or kind == "union" or kind == "") then
      list[#list + 1] = { type = type, tag = kind ~= "" and tag or nil }
    end
  end
  return list, tags
end

-- All structs, unions and typedefs of such by name; and how many there are whose names are not theirs alone:
-- in C a struct's is not an enum's, either, and bpftool gives one of them another.
local function our_layouts(set, last)
  local layouts, names, ambiguous = {}, {}, 0
  local list, tags = named_types(set, last)
  for _, one in ipairs(list) do
    local type, name = one.type, one.type.name
    local found, same = pcall(set.get, set, name)
    if not found or (tags[one.tag] or 0) > 1 then
      ambiguous = ambiguous + 1
    elseif same.id == type.id then
      local layout = { size = type.size, members = {} }
      add_members(layout.members, type, 0)
      layouts[name] = layout
      names[#names + 1] = name
    end
  end
  return layouts, names, ambiguous
end

-- --- clang's ---

local START = [[
#define BPF_NO_PRESERVE_ACCESS_INDEX
#include "vmlinux.h"
#define M(type, member) __builtin_offsetof(type, member), sizeof(((type *)0)->member)
const unsigned long long probe[] = {
]]

-- A program whose only variable has what is asked for: sizes of structs, offsets and sizes of members.
local function program(layouts, names)
  local lines = { START }
  for _, name in ipairs(names) do
    lines[#lines + 1] = ("sizeof(%s),\n"):format(name)
    for _, member in ipairs(layouts[name].members) do
      if member.bits == 0 then
        lines[#lines + 1] = ("M(%s, %s),\n"):format(name, member.name)
      end
    end
  end
  return table.concat(lines) .. "};\n"
end

local function numbers_of(assembly)
  local list = {}
  for what, number in assembly:gmatch "\t%.(%l+)\t(%d+)" do
    if what == "quad" then
      list[#list + 1] = tonumber(number)
    elseif what == "zero" then
      for _ = 1, number / 8 do
        list[#list + 1] = 0
      end
    end
  end
  return list
end

local function is_nameless(what)
  return what:find "%(%l+ at [^%)]*%) *$" ~= nil or what:find "^struct [%w_]+ *$" ~= nil
    or what:find "^union [%w_]+ *$" ~= nil
end

-- Bit-fields of all structs from clang's own listing: by name of the struct and of the member. Lines are
-- "   12:4-7 |   __u16 doff", two spaces deeper in each struct within; those of nameless ones count.
local function bit_fields_of(listing)
  local fields = {}
  for text in (listing .. "\n"):gmatch "%*%*%* Dumping AST Record Layout\n(.-)\n\n" do
    local name, rest = text:match "^ *0 | ([^\n]+)\n(.*)$"
    local depth = 1 -- members at this depth and below are the struct's own
    for byte, low, high, indent, what in (rest or ""):gmatch "(%d+):?(%d*)%-?(%d*) | ( +)([^\n]+)" do
      local at = #indent / 2
      depth = math.min(depth, at)
      if at == depth and is_nameless(what) then
        depth = depth + 1
      elseif at == depth and high ~= "" and what:find " [%w_]+$" then -- without a name: padding
        fields[name] = fields[name] or {}
        fields[name][what:match "[%w_]+$"] = { offset = byte * 8 + low, bits = high - low + 1 }
      end
    end
  end
  return fields
end

local function clang_output(directory, source)
  files.write(directory .. "/probe.c", source)
  -- A struct with a name in another, but no member's name: the kernel is built with these extensions.
  output("cd %s && %s -std=gnu11 -fms-extensions -w -S -Xclang -fdump-record-layouts probe.c "
    .. ">listing", directory, clang)
  return numbers_of(files.read(directory .. "/probe.s")), bit_fields_of(files.read(directory .. "/listing"))
end

-- --- both ---

local function compare(layouts, names, numbers, bit_fields)
  local wrong, members, next = {}, 0, 0
  local function take()
    next = next + 1
    return numbers[next]
  end
  local function check(what, ours, theirs)
    if ours ~= theirs and #wrong < 20 then
      wrong[#wrong + 1] = ("%s is %s, clang says %s"):format(what, tostring(ours), tostring(theirs))
    end
  end
  for _, name in ipairs(names) do
    check("the size of " .. name, layouts[name].size, take())
    for _, member in ipairs(layouts[name].members) do
      local what = name .. "." .. member.name
      members = members + 1
      if member.bits == 0 then
        check("the offset of " .. what, member.offset / 8, take())
        check("the size of " .. what, member.size, take())
      else
        local field = (bit_fields[name] or {})[member.name] or {}
        check("the offset in bits of " .. what, member.offset, field.offset)
        check("the bits of " .. what, member.bits, field.bits)
      end
    end
  end
  check("the number of answers", next, #numbers)
  return wrong, members
end

describe("the layouts of a kernel's structs", function()
  if #cached == 0 then
    it("are clang's", function()
      pending "no kernel is cached: 'ktstr kernel get debian:7.3'"
    end)
  end

  for _, kernel in ipairs(cached) do
    it("are clang's: all of " .. kernel.release, function()
      if not clang or not bpftool or not kernel.vmlinux then
        pending(not kernel.vmlinux and "it has no vmlinux"
          or "there is no clang or no bpftool: 'scripts/setup bpf' installs them")
        return
      end
      local ffi = require "ffi"
      local set = image.open(kernel.vmlinux).types
      local layouts, names, ambiguous = our_layouts(set, ffi.C.types_end(set.handle))
      for _, name in ipairs(NAMED) do
        assert.is_true(#layouts[name].members > 10, name)
      end
      assert.is_true(#names > 5000 and ambiguous < #names / 50)
      local directory = os.tmpname()
      os.remove(directory)
      files.make_directory(directory)
      local ok, wrong, members = pcall(function()
        output("%s btf dump file '%s' format c >%s/vmlinux.h", bpftool, kernel.vmlinux, directory)
        return compare(layouts, names, clang_output(directory, program(layouts, names)))
      end)
      files.remove(directory)
      assert(ok, wrong)
      assert.same({}, wrong)
      assert.is_true(members > 30000)
    end)
  end
end)
