-- `ktstr warm`: lists, checks and removes saved machines.
local json = require "dkjson"
local errors = require "ktstr.errors"
local size = require "ktstr.size"
local status = require "ktstr.status"
local subcommands = require "ktstr.subcommands"
local cache = require "ktstr.warm.cache"
local settings = require "ktstr.warm.settings"

local HELP = {
  warm = [[
Usage: ktstr warm COMMAND [ARGS]

  list                say which machines are saved
  clean [NAME...]     remove those that are of no use any more, or some, or all
  verify [NAME...]    read them, and say which are damaged

'ktstr warm COMMAND --help' says more. Machines are saved in %s.
]],
  list = [[
Usage: ktstr warm list [--json]

Lists the saved machines, the one used last first.

STATE is ok; stale, where another build of ktstr saved it, so that this one cannot use it; or damaged.
What only 'ktstr warm verify' can find is not looked for.

  --json              as a JSON array, with all that a machine's identity says
]],
  clean = [[
Usage: ktstr warm clean [--all | NAME...]

Removes saved machines that this build of ktstr cannot use, those that are damaged, and what killed
runs left. NAME is one that 'ktstr warm list' shows, or its beginning: then that is removed, whatever
its state. A machine that runs from one goes on.

  --all               removes all of them
]],
  verify = [[
Usage: ktstr warm verify [NAME...]

Reads every block of the saved machines, all or those named, and compares it with its checksum.
Exit status 1 when one is damaged; it stays until 'ktstr warm clean NAME' removes it.
]],
}

local command = subcommands.new { name = "warm", help = HELP, directory = settings.directory }

local function time(seconds)
  return os.date("%Y-%m-%d %H:%M", seconds)
end

local function memory_of(entry)
  return entry.identity and tonumber(entry.identity.memory)
end

local function list_json(entries)
  local rows = {}
  for i, entry in ipairs(entries) do
    local saved = entry.identity or {}
    rows[i] = {
      name = entry.name,
      path = entry.path,
      state = entry.state,
      reason = entry.reason,
      kernel_release = saved["kernel-release"],
      topology = saved.topology,
      memory = memory_of(entry),
      size = entry.size,
      created = entry.created,
      used = entry.used,
      identity = entry.identity,
    }
  end
  io.stdout:write(json.encode(setmetatable(rows, { __jsontype = "array" }), { indent = true }), "\n")
  return status.PASSED
end

local function list(args)
  local words, options = command:parse("list", args, { ["--json"] = false })
  if #words > 0 then
    command:usage("list", ("unexpected argument '%s'"):format(words[1]))
  end
  local entries = cache.list()
  if options["--json"] then
    return list_json(entries)
  elseif #entries == 0 then
    io.stderr:write(("No machine is saved in %s.\n"):format(settings.directory()))
    return status.PASSED
  end
  local row = "%-12s  %-28s  %-10s  %9s  %9s  %-16s  %-16s  %s\n"
  io.stdout:write(row:format("NAME", "KERNEL", "TOPOLOGY", "MEMORY", "SIZE", "CREATED", "USED", "STATE"))
  for _, entry in ipairs(entries) do
    local saved, memory = entry.identity or {}, memory_of(entry)
    io.stdout:write(row:format(cache.short_name(entry), saved["kernel-release"] or "?", saved.topology or "?",
      memory and size.format(memory) or "?", size.format(entry.size), time(entry.created), time(entry.used),
      entry.state))
  end
  return status.PASSED
end

-- The entries whose names begin with what was given, each word naming one.
local function resolve(words)
  local all, wanted, seen = cache.names(), {}, {}
  for _, word in ipairs(words) do
    local found = {}
    for _, entry in ipairs(all) do
      if word ~= "" and entry.name:sub(1, #word) == word then
        found[#found + 1] = entry
      end
    end
    if #found == 0 then
      errors.refuse("not-found", ("no saved machine is called '%s'"):format(word), "see 'ktstr warm list'")
    elseif #found > 1 then
      errors.refuse("invalid", ("%d saved machines have names that begin with '%s'"):format(#found, word),
        ("say more of it: %s, %s"):format(cache.short_name(found[1]), cache.short_name(found[2])))
    end
    if not seen[found[1].name] then
      seen[found[1].name] = true
      wanted[#wanted + 1] = found[1]
    end
  end
  return wanted
end

local function useless()
  local entries = {}
  for _, entry in ipairs(cache.list()) do
    if entry.state ~= "ok" then
      entries[#entries + 1] = entry
    end
  end
  return entries
end

local function clean(args)
  local words, options = command:parse("clean", args, { ["--all"] = false })
  if options["--all"] and #words > 0 then
    command:usage("clean", ("'--all' leaves nothing to name, and there is '%s'"):format(words[1]))
  end
  local chosen
  if #words > 0 then
    chosen = resolve(words)
  else
    chosen = options["--all"] and cache.names() or useless()
  end
  local bytes = 0
  local removed = cache.remove(chosen)
  for _, entry in ipairs(removed) do
    io.stdout:write(("%s removed%s, %s\n"):format(cache.short_name(entry),
      entry.reason and (" (%s: %s)"):format(entry.state, entry.reason) or "", size.format(entry.size)))
    bytes = bytes + entry.size
  end
  local left, left_bytes = 0, 0
  if #words == 0 then
    left, left_bytes = cache.sweep(options["--all"])
  end
  if left > 0 then
    io.stdout:write(("%d left by runs that were killed removed, %s\n"):format(left, size.format(left_bytes)))
  end
  if #removed + left == 0 then
    io.stdout:write("Nothing is to be removed.\n")
  else
    io.stdout:write(("%s in all (%.0f bytes)\n"):format(size.format(bytes + left_bytes), bytes + left_bytes))
  end
  return status.PASSED
end

local function verify(args)
  local words = command:parse("verify", args, {})
  local entries = #words > 0 and resolve(words) or cache.names()
  local damaged = {}
  for _, entry in ipairs(entries) do
    local fine, reason = cache.verify(entry)
    local verdict = fine and "ok" or fine == nil and "removed meanwhile" or "damaged: " .. reason
    io.stdout:write(("%s %s\n"):format(cache.short_name(entry), verdict))
    io.stdout:flush()
    if fine == false then
      damaged[#damaged + 1] = cache.short_name(entry)
    end
  end
  if #damaged > 0 then
    io.stderr:write(("ktstr warm: to remove what is damaged: ktstr warm clean %s\n"):format(
      table.concat(damaged, " ")))
    return status.FAILED
  end
  return status.PASSED
end

command.run = { list = list, clean = clean, verify = verify }

return command
