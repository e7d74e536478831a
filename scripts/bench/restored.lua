-- usage: ktstr script restored.lua DIRECTORY
-- Starts the tiny guest from an image in which it answers, asks it, and says when the answer is there.
local core = require "ktstr.core"

local wire = core.wire
local image = core.image_open(arg[1])
local machine = core.machine_saved(image, { timeout = 60 })
machine:start()
machine:send(wire.MSG_OP_REQUEST, wire.op_request(1, wire.OP_PING, ""))
machine:recv()
io.stdout:write "ready\n"
io.stdout:flush()
machine:recv()
