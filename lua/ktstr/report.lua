-- Results as text for people.
local errors = require "ktstr.errors"

local report = {}

local columns = {
  { "cgroup", function(row)
    return row.name
  end },
  { "workers", function(row)
    return tostring(row.workers)
  end },
  { "work", function(row)
    return row.work
  end },
  { "units", function(row)
    return row.work_units and ("%d"):format(row.work_units)
  end },
  { "min", function(row)
    return row.units_min and ("%d"):format(row.units_min)
  end },
  { "max", function(row)
    return row.units_max and ("%d"):format(row.units_max)
  end },
  { "spread %", function(row)
    return row.spread_pct and ("%.1f"):format(row.spread_pct)
  end },
  { "max gap ms", function(row)
    return row.max_gap_ms and ("%.1f"):format(row.max_gap_ms)
  end },
  { "migrations", function(row)
    return row.migrations and ("%d"):format(row.migrations)
  end },
  { "run delay ms", function(row)
    return row.run_delay_ms and ("%.1f"):format(row.run_delay_ms)
  end },
  { "CPUs", function(row)
    return row.cpus_used
  end },
}

local left = { cgroup = true, work = true, CPUs = true }

--- The per-cgroup table. What is not known is "-".
---@param rows ktstr.CgroupSummary[]
---@return string
function report.table_of(rows)
  local widths, lines = {}, { {} }
  for c, column in ipairs(columns) do
    lines[1][c] = column[1]
    widths[c] = #column[1]
  end
  for r, row in ipairs(rows) do
    lines[r + 1] = {}
    for c, column in ipairs(columns) do
      local text = column[2](row)
      text = text and text ~= "" and text or "-"
      lines[r + 1][c] = text
      widths[c] = math.max(widths[c], #text)
    end
  end
  for i, cells in ipairs(lines) do
    for c, text in ipairs(cells) do
      local padding = (" "):rep(widths[c] - #text)
      cells[c] = left[columns[c][1]] and text .. padding or padding .. text
    end
    lines[i] = ("  " .. table.concat(cells, "  ")):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

local function hold_lines(hold, lines)
  local dilation = hold.dilation.share
  lines[#lines + 1] = ("  workers ran %.1f s; host dilation %s"):format(hold.seconds,
    dilation and ("%.0f %%"):format(dilation * 100) or "unknown")
  lines[#lines + 1] = report.table_of(hold.rows)
end

--- One line of a finding.
---@param finding ktstr.Finding
---@return string
function report.finding(finding)
  local label = finding.status == "fail" and "FAILED" or finding.status
  local text = ("%s %s (%s)"):format(label, finding.check, finding.where)
  if finding.expected then
    text = ("%s: expected %s, found %s"):format(text, finding.expected, finding.found)
  elseif finding.found then
    text = ("%s: %s"):format(text, finding.found)
  end
  return text
end

-- What a finding does not stand on.
local function add_notes(lines, finding, indent)
  for _, note in ipairs(finding.notes or {}) do
    lines[#lines + 1] = ("%s  note: %s"):format(indent or "", note)
  end
end

--- What was raised, with where for faults of a script; bad input is one line.
---@param e any
---@param traceback string|nil
---@return string
function report.error(e, traceback)
  if errors.is(e) and e.cannot_run then
    return tostring(e)
  end
  return traceback and tostring(e) .. "\n" .. traceback or tostring(e)
end

local verdicts = {
  pass = "PASS",
  fail = "FAIL",
  error = "FAIL",
  inconclusive = "INCONCLUSIVE",
  skip = "SKIPPED",
}

--- Why a test did not pass: its findings, or what it raised.
---@param result ktstr.TestResult
---@return string[] lines
function report.reasons(result)
  local lines = {}
  if result.error then
    local text = report.error(result.error, result.traceback)
    for line in text:gmatch "[^\n]+" do
      lines[#lines + 1] = (#lines == 0 and "error: " or "") .. line
    end
  elseif result.reason then
    lines[1] = result.reason
  end
  for _, finding in ipairs(result.findings) do
    if finding.status ~= "pass" then
      lines[#lines + 1] = report.finding(finding)
      add_notes(lines, finding)
    end
  end
  return lines
end

--- A test's block.
---@param result ktstr.TestResult
---@return string
function report.block(result)
  local lines = { "test: " .. result.name }
  if result.release then
    lines[#lines + 1] = ("  kernel %s, topology %s (%d CPUs)"):format(result.release,
      tostring(result.topology), result.topology.cpus)
  end
  for _, hold in ipairs(result.holds) do
    hold_lines(hold, lines)
  end
  for _, line in ipairs(report.reasons(result)) do
    lines[#lines + 1] = "  " .. line
  end
  for _, finding in ipairs(result.findings) do
    if finding.status == "pass" and #(finding.notes or {}) > 0 then
      lines[#lines + 1] = "  " .. report.finding(finding)
      add_notes(lines, finding, "  ")
    end
  end
  for _, warning in ipairs(result.warnings or {}) do
    lines[#lines + 1] = "  warning: " .. warning
  end
  local shows_console = result.status == "fail" or result.status == "error"
  -- An error about the machine's end brings the console's tail itself.
  if shows_console and result.console ~= "" and not (errors.is(result.error) and result.error.detail) then
    lines[#lines + 1] = result.console
  end
  lines[#lines + 1] = verdicts[result.status]
  return table.concat(lines, "\n")
end

--- The last lines: what was inconclusive, and the count alone on the last one.
---@param results ktstr.TestResult[]
---@return string
function report.summary(results)
  local counts = { pass = 0, fail = 0, error = 0, inconclusive = 0, skip = 0 }
  local inconclusive = {}
  for _, result in ipairs(results) do
    counts[result.status] = counts[result.status] + 1
    if result.status == "inconclusive" then
      inconclusive[#inconclusive + 1] = result.name
    end
  end
  local text = ("%d passed, %d failed"):format(counts.pass, counts.fail + counts.error)
  local skipped = counts.skip + counts.inconclusive
  if skipped > 0 then
    text = ("%s, %d skipped"):format(text, skipped)
  end
  if #inconclusive > 0 then
    text = ("%d inconclusive (counted as skipped): %s\n%s"):format(#inconclusive,
      table.concat(inconclusive, ", "), text)
  end
  return text
end

return report
