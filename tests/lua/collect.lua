-- A helper of busted's (`ktstr test --helper=tests/lua/collect.lua`): the collector goes all the way every
-- few instructions, so that what nobody holds is gone before it is used again. Nothing is compiled so.
local INSTRUCTIONS = 2000

collectgarbage("setpause", 100)
collectgarbage("setstepmul", 100000)
debug.sethook(function()
  collectgarbage("step", 1000)
end, "", INSTRUCTIONS)
