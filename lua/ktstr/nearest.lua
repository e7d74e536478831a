-- Finds the name that somebody probably meant.
local nearest = {}

-- Edit distance with transpositions, over three rows.
local function distance(a, b)
  local before, last = nil, {}
  for j = 0, #b do
    last[j] = j
  end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if before and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, last = last, row
  end
  return last[#b]
end

nearest.distance = distance

--- The candidate nearest to name, or nil when none is near enough to be a guess.
---@param name string
---@param candidates string[]
---@return string|nil
function nearest.find(name, candidates)
  local best, best_distance
  for _, candidate in ipairs(candidates) do
    local d = distance(name:lower(), candidate:lower())
    if not best or d < best_distance or (d == best_distance and candidate < best) then
      best, best_distance = candidate, d
    end
  end
  if best and best_distance <= math.max(1, math.floor(math.max(#name, #best) / 2)) then
    return best
  end
end

--- A hint: the nearest candidate, or else all of them.
---@param name string
---@param candidates string[]
---@return string
function nearest.hint(name, candidates)
  local found = nearest.find(name, candidates)
  if found then
    return ("did you mean '%s'?"):format(found)
  end
  local all = { unpack(candidates) }
  table.sort(all)
  return "known: " .. table.concat(all, ", ")
end

return nearest
