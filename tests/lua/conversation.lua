-- The prompt as specs speak with it: lines in, what was shown and complained about out.
local conversation = {}

-- A file that is kept as text.
local function paper()
  return {
    text = "",
    write = function(self, ...)
      self.text = self.text .. table.concat { ... }
    end,
    flush = function() end,
  }
end

--- Evaluates lines in a session of their own.
---@param session table the module ktstr.repl.session
---@param lines string[]
---@param env table the globals
---@return string out, string complaints, string[] prompts, ktstr.ReplSession one
function conversation.hold(session, lines, env)
  local one = session.new(env, paper(), paper())
  local prompts = {}
  one.input = {
    line = function(_, prompt)
      prompts[#prompts + 1] = prompt
      local line = table.remove(lines, 1)
      return line, not line and "eof" or nil
    end,
    run = function(_, f, ...)
      return pcall(f, ...)
    end,
  }
  while not one.over do
    one:turn()
  end
  return one.out.text, one.err.text, prompts, one
end

return conversation
