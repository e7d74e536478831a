-- The symbols and types of a kernel's image: read out of it once, kept on disk for the next process, and
-- shared by all machines of this one.
--
-- What is kept has a directory a kernel in the user's cache, named by the hash of the image. It is put
-- together under another name and renamed: a name holds all of it or nothing. What is damaged is removed and
-- made again.
local ffi = require "ffi"
local fcntl = require "posix.fcntl"
local unistd = require "posix.unistd"
local c = require "ktstr.kernel.c"
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local file_status = require "ktstr.file_status"
local files = require "ktstr.files"
local hashes = require "ktstr.warm.hashes"
local process = require "ktstr.process"
local symbols = require "ktstr.kernel.symbols"
local types = require "ktstr.kernel.types"
local user_cache = require "ktstr.user_cache"

ffi.cdef "ssize_t pread(int fd, void *data, size_t size, int64_t offset);"

local C = ffi.C

local image = {}

local TITLE = "ktstr kernel 1"
local KEPT = 16 -- kernels
local MODE = tonumber("700", 8)
local BANNER_MAX = 512

---@class ktstr.KernelImage
---@field path string
---@field symbols ktstr.SymbolSet
---@field types ktstr.TypeSet|nil nil: it was built without
---@field banner string the kernel's linux_banner

-- --- out of the image itself ---

local ElfHeader = ffi.typeof [[struct {
  uint8_t ident[16]; uint16_t type, machine; uint32_t version; uint64_t entry, phoff, shoff; uint32_t flags;
  uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
}]]
local Segment = ffi.typeof [[struct {
  uint32_t type, flags; uint64_t offset, vaddr, paddr, filesz, memsz, align;
}]]
local PT_LOAD = 1

local function pread(fd, data, size, offset)
  return C.pread(fd, data, size, offset) == size
end

-- The string at an address as linked; nil where the file has none.
local function string_at(handle, place)
  local fd, header, segment = C.kernel_image_fd(handle), ElfHeader(), Segment()
  if not pread(fd, header, ffi.sizeof(header), 0) then
    return nil
  end
  for i = 0, header.phnum - 1 do
    if pread(fd, segment, ffi.sizeof(segment), ffi.cast("int64_t", header.phoff) + i * ffi.sizeof(segment))
      and segment.type == PT_LOAD and place - segment.vaddr < segment.filesz then
      local data = ffi.new("char[?]", BANNER_MAX + 1)
      local from = ffi.cast("int64_t", segment.offset + (place - segment.vaddr))
      return C.pread(fd, data, BANNER_MAX, from) > 0 and ffi.string(data) or nil
    end
  end
end

local function banner_of(handle, set)
  local found = set:find "linux_banner"
  local banner = found[1] and string_at(handle, found[1].address)
  if not banner or banner == "" then
    errors.raise("format", "the kernel image has no linux_banner, so nobody can tell what runs")
  end
  return banner
end

-- A set of types, or nil for a kernel that was built without.
local function types_of(handle)
  local ret = ffi.new "struct types *[1]"
  local ok, e = pcall(c.check, C.types_create_image(handle, ret))
  if ok then
    return types.kernel_set(ret[0])
  elseif not errors.is(e, "not-found") then
    error(e, 0)
  end
end

local function read_image(path)
  local ret = ffi.new "struct kernel_image *[1]"
  c.check(C.kernel_image_open(path, ret))
  local handle = ffi.gc(ret[0], C.kernel_image_close)
  local symbol_ret = ffi.new "struct symbols *[1]"
  c.check(C.symbols_create(handle, symbol_ret))
  local set = symbols.set(symbol_ret[0])
  local one = { path = path, symbols = set, types = types_of(handle), banner = banner_of(handle, set) }
  C.kernel_image_close(ffi.gc(handle, nil))
  return one
end

-- --- on disk ---

local told = {}

-- Once a process for each path.
local function warn(path, format, ...)
  if not told[path] then
    told[path] = true
    io.stdout:flush()
    io.stderr:write("ktstr: warning: ", format:format(...), "\n")
  end
end

-- Calls f(...); an interruption goes on its way.
local function try(f, ...)
  local ok, result = pcall(f, ...)
  if not ok and errors.is(result, "interrupted") then
    error(result, 0)
  end
  return ok, result
end

--- Where symbols and types are kept; nil: nowhere.
---@return string|nil
function image.directory()
  local root = user_cache.find()
  return root and root .. "/symbols"
end

local function with_file(path, flags, f)
  local fd, message = fcntl.open(path, flags + fcntl.O_CLOEXEC, tonumber("600", 8))
  if not fd then
    errors.raise("not-found", message)
  end
  local ok, result = pcall(f, fd)
  process.finish(unistd.close, fd)
  if not ok then
    error(result, 0)
  end
  return result
end

local function open_symbols(path)
  return with_file(path, fcntl.O_RDONLY, function(fd)
    local ret = ffi.new "struct symbols *[1]"
    c.check(C.symbols_open(fd, ret))
    return symbols.set(ret[0])
  end)
end

local function open_types(path)
  return with_file(path, fcntl.O_RDONLY, function(fd)
    local ret = ffi.new "struct types *[1]"
    c.check(C.types_open(fd, ret))
    return types.kernel_set(ret[0])
  end)
end

local function describe(one)
  local body = ("%s\n%s"):format(one.types and "types" or "none", one.banner)
  return ("%s %s\n%s"):format(TITLE, core.hash(body), body)
end

local function parse(text)
  local title, hash, has_types, banner = (text or ""):match "^(.-) (%x+)\n(%l+)\n(.*)$"
  if title ~= TITLE or core.hash(has_types .. "\n" .. banner) ~= hash then
    errors.raise("format", "its description is damaged, or another version's")
  end
  return banner, has_types == "types"
end

local function open_entry(entry)
  local banner, has_types = parse(files.read(entry .. "/kernel"))
  return {
    symbols = open_symbols(entry .. "/symbols"),
    types = has_types and open_types(entry .. "/types") or nil,
    banner = banner,
  }
end

local taken = 0

-- A name beside the entry that nobody looks for.
local function aside(entry)
  taken = taken + 1
  return ("%s.tmp-%d-%d"):format(entry, unistd.getpid(), taken)
end

local function remove_entry(entry)
  local away = aside(entry)
  if os.rename(entry, away) then
    files.remove(away)
  end
end

-- What is kept, or nil.
local function find(entry)
  if not files.is_directory(entry) then
    return nil
  elseif file_status.of(entry).owner ~= unistd.geteuid() then
    -- Its checksums say that it is whole, not whose work it is.
    warn(entry, "symbols and types in %s are another user's, and are not used", entry)
    return nil
  end
  local ok, result = try(open_entry, entry)
  if ok then
    file_status.touch(entry)
    return result
  end
  local removed = try(remove_entry, entry)
  warn(entry, "symbols and types in %s are of no use: %s; %s", entry, tostring(result),
    removed and "they are made again" or "they cannot be removed")
end

local YOUNG_S = 60

-- Removes the least recently used, and what killed processes left.
local function trim(directory)
  local entries = {}
  for _, name in ipairs(files.list(directory)) do
    local path = directory .. "/" .. name
    local status = file_status.of(path)
    if status and name:find(".tmp-", 1, true) then
      if os.time() - status.mtime > YOUNG_S then
        files.remove(path)
      end
    elseif status then
      entries[#entries + 1] = { path = path, used = status.mtime }
    end
  end
  table.sort(entries, function(a, b)
    return a.used > b.used
  end)
  for i = KEPT + 1, #entries do
    remove_entry(entries[i].path)
  end
end

local function write_entry(path, one)
  files.make_directory(path, MODE)
  local flags = fcntl.O_WRONLY + fcntl.O_CREAT + fcntl.O_EXCL
  with_file(path .. "/symbols", flags, function(fd)
    c.check(C.symbols_write(one.symbols.handle, fd))
  end)
  if one.types then
    with_file(path .. "/types", flags, function(fd)
      c.check(C.types_write(one.types.handle, fd))
    end)
  end
  files.write(path .. "/kernel", describe(one))
end

-- Keeps it; somebody else may have been faster.
local function store(entry, one)
  local temporary = aside(entry)
  local ok, e = try(function()
    write_entry(temporary, one)
    if not os.rename(temporary, entry) then
      files.remove(temporary)
    end
    trim(entry:match "^(.*)/")
  end)
  if not ok then
    try(files.remove, temporary)
    warn(entry, "the kernel's symbols and types are not kept for the next run: %s", tostring(e))
  end
end

-- --- by kernel ---

-- By hash: those that some machine's kernel uses, and the last few, for the next machine.
local images, recent = setmetatable({}, { __mode = "v" }), {}
local RECENT = 4

local function keep(hash, one)
  images[hash] = one
  for i, other in ipairs(recent) do
    if other == one then
      table.remove(recent, i)
      break
    end
  end
  table.insert(recent, 1, one)
  recent[RECENT + 1] = nil
  return one
end

--- The symbols and types of a kernel image.
---@param path string
---@param hash string|nil of its contents; nil: it is taken
---@return ktstr.KernelImage
function image.open(path, hash)
  hash = hash or hashes.of(path)
  local one = images[hash]
  if not one then
    local directory = image.directory()
    local entry = directory and directory .. "/" .. hash
    one = entry and find(entry)
    if not one then
      one = read_image(path)
      if entry then
        store(entry, one)
      end
    end
    one.path = path
  end
  return keep(hash, one)
end

-- What the kernel's file was when the machine was booted; nil when nobody noted that.
local function expected_hash(plan)
  if plan.identity then
    return require("ktstr.warm.identity").parse(plan.identity).kernel
  end
end

local function kept(hash)
  local directory = image.directory()
  return images[hash] or (directory and find(directory .. "/" .. hash)) or nil
end

-- A machine that was booted by this process: its kernel has the stamp that it had then.
local function of_booted(path, plan)
  local status = file_status.of(path, true)
  if not status then
    errors.raise("not-found", ("the machine's kernel, %s, is not there any more, and with it its symbols and "
      .. "types"):format(path), "boot a kernel whose file stays")
  elseif plan.kernel_stamp and status.stamp ~= plan.kernel_stamp then
    errors.raise("unsupported", ("the kernel %s has changed since it was booted, so its symbols are not the "
      .. "machine's"):format(path), "boot the new one")
  end
  return image.open(path)
end

--- The symbols and types of the kernel that a machine runs. Raises "not-found" and "unsupported" when its
--- file has gone or changed, "format" when it is damaged.
---@param vm ktstr.VM
---@return ktstr.KernelImage
function image.of(vm)
  local plan = vm.plan
  local path = plan and (plan.kernel and plan.kernel.path or plan.given and plan.given.kernel)
  if not path then
    errors.raise("unsupported", "nothing says which kernel this machine runs, so it has no symbols and types",
      "ktstr.boot says so")
  end
  local hash = expected_hash(plan)
  if not hash then
    return of_booted(path, plan)
  end
  -- A saved machine: what its kernel was is known by its contents.
  local one = kept(hash)
  if one then
    one.path = path
    return keep(hash, one)
  end
  if not files.is_file(path) then
    errors.raise("not-found", ("the saved machine's kernel, %s, is not there any more, and its symbols and "
      .. "types are not in the cache"):format(path), "put it back, or boot another kernel and save that")
  elseif hashes.of(path) ~= hash then
    errors.raise("unsupported", ("the kernel %s has changed since the machine was saved, so its symbols are "
      .. "not the machine's"):format(path), "boot the new one")
  end
  return image.open(path, hash)
end

return image
