-- The lines of earlier sessions. A history that cannot be read or written is no reason to fail.
local files = require "ktstr.files"
local fcntl = require "posix.fcntl"
local unistd = require "posix.unistd"

local history = {}

--- Lines that are kept.
history.SIZE = 1000

local MODE = tonumber("600", 8)

--- Where it is kept; nil where there is no home.
---@return string|nil
function history.path()
  local state = os.getenv "XDG_STATE_HOME"
  if not state or state:sub(1, 1) ~= "/" then
    local home = os.getenv "HOME"
    state = home and home ~= "" and home .. "/.local/state"
  end
  return state and state .. "/ktstr/history" or nil
end

local function last_lines(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    lines[#lines + 1] = line
  end
  return { unpack(lines, math.max(1, #lines - history.SIZE + 1)) }, #lines
end

-- All of the text, or nothing.
local function write_all(fd, text)
  local written = unistd.write(fd, text)
  unistd.close(fd)
  return written == #text
end

-- Anew, in one step: whoever reads sees the old one or the new one.
local function replace(path, lines)
  local temporary = ("%s.%d"):format(path, unistd.getpid())
  local fd = fcntl.open(temporary, fcntl.O_WRONLY + fcntl.O_CREAT + fcntl.O_TRUNC, MODE)
  if fd then
    if not (write_all(fd, table.concat(lines, "\n") .. "\n") and os.rename(temporary, path)) then
      os.remove(temporary)
    end
  end
end

--- The lines of earlier sessions, the oldest first. A file that has grown to the double is cut.
---@return string[]
function history.load()
  local path = history.path()
  local text = path and files.read(path)
  if not text then
    return {}
  end
  local lines, count = last_lines(text)
  if count > 2 * history.SIZE then
    replace(path, lines)
  end
  return lines
end

--- Adds a line, at once and in one piece: sessions side by side lose none, and neither does one that is
--- killed.
---@param line string
function history.add(line)
  local path = history.path()
  if not path or not pcall(files.make_directory, path:match "^(.*)/") then
    return
  end
  local fd = fcntl.open(path, fcntl.O_WRONLY + fcntl.O_CREAT + fcntl.O_APPEND, MODE)
  if fd then
    write_all(fd, line .. "\n")
  end
end

return history
