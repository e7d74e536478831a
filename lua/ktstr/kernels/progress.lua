-- Says on standard error what is being done: on a terminal one line drawn anew, elsewhere a line a step.

local unistd = require "posix.unistd"

local progress = {}
progress.__index = progress

local WIDTH = 70 -- of a line that is drawn anew: one that wraps cannot be
local QUARTER = 25 -- percent between two lines where a line cannot be drawn anew

---@param file file*|nil default standard error
---@param tty boolean|nil default: whether standard error is a terminal
function progress.new(file, tty)
  if tty == nil then
    tty = unistd.isatty(2) ~= nil and os.getenv "TERM" ~= "dumb"
  end
  return setmetatable({ file = file or io.stderr, tty = tty }, progress)
end

--- Begins a step; the one before is done.
---@param text string
function progress:step(text)
  self:done()
  self.text = self.tty and text:sub(1, WIDTH) or text
  self.quarter, self.shown = 0, nil
  self.file:write(self.text, self.tty and "" or "\n")
  self.file:flush()
end

--- How far the step is.
---@param percent number
function progress:percent(percent)
  percent = math.floor(percent)
  if self.tty and percent ~= self.shown then
    self.shown = percent
    self.file:write(("\r%s  %3d%%\27[K"):format(self.text, percent))
  elseif not self.tty and math.floor(percent / QUARTER) > self.quarter and percent < 100 then
    self.quarter = math.floor(percent / QUARTER)
    self.file:write(("  %d%%\n"):format(self.quarter * QUARTER))
  end
  self.file:flush()
end

--- Ends the step that is under way, so that other text may follow.
function progress:done()
  if self.text and self.tty then
    self.file:write("\n")
    self.file:flush()
  end
  self.text = nil
end

return progress
