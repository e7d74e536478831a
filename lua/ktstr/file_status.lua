-- What a file is, to the nanosecond: luaposix's stat knows whole seconds only.
local ffi = require "ffi"

ffi.cdef [[
int statx(int directory, const char *path, int flags, unsigned int mask, void *result);
int utimensat(int directory, const char *path, const void *times, int flags);
]]

local AT_FDCWD, AT_SYMLINK_NOFOLLOW = -100, 0x100
local STATX_BASIC_STATS = 0x7ff
local TYPE_MASK, DIRECTORY, REGULAR = 0xf000, 0x4000, 0x8000
local BLOCK = 512

-- struct statx, of which the kernel promises that it stays. Not declared by name: a name can be declared
-- once a process, and specs load the library again.
local new_statx = ffi.typeof [[
struct {
  uint32_t mask, blksize;
  uint64_t attributes;
  uint32_t nlink, uid, gid;
  uint16_t mode, pad;
  uint64_t ino, size, blocks, attributes_mask;
  struct { int64_t sec; uint32_t nsec; int32_t pad; } atime, btime, ctime, mtime;
  uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  uint64_t spare[14];
}]]

local file_status = {}

local function seconds(time)
  return tonumber(time.sec) + time.nsec / 1e9
end

local function exactly(time)
  return ("%d.%09d"):format(tonumber(time.sec), time.nsec)
end

---@class ktstr.FileStatus
---@field id string which file it is: device and inode. Another file may have it once this one has gone
---@field stamp string changes with the file's contents: id, size, times to the nanosecond
---@field owner integer its user
---@field size number bytes
---@field disk number bytes that it takes on disk
---@field mtime number seconds since the epoch, as ctime
---@field ctime number
---@field directory boolean
---@field regular boolean

--- nil when there is nothing.
---@param path string
---@param follow boolean|nil of what a link leads to; nil: of the link itself
---@return ktstr.FileStatus|nil
function file_status.of(path, follow)
  local s = new_statx()
  if ffi.C.statx(AT_FDCWD, path, follow and 0 or AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, s) ~= 0 then
    return nil
  end
  local id = ("%d:%d:%s"):format(s.dev_major, s.dev_minor, (tostring(s.ino):gsub("ULL$", "")))
  return {
    id = id,
    stamp = ("%s:%d:%s:%s"):format(id, tonumber(s.size), exactly(s.mtime), exactly(s.ctime)),
    owner = s.uid,
    size = tonumber(s.size),
    disk = tonumber(s.blocks) * BLOCK,
    mtime = seconds(s.mtime),
    ctime = seconds(s.ctime),
    directory = bit.band(s.mode, TYPE_MASK) == DIRECTORY,
    regular = bit.band(s.mode, TYPE_MASK) == REGULAR,
  }
end

--- Sets the time of modification to now. Returns whether that could be done.
---@param path string
---@return boolean
function file_status.touch(path)
  return ffi.C.utimensat(AT_FDCWD, path, nil, 0) == 0
end

return file_status
