-- Sends one review again and again and counts the answers that differ from the one that was checked.
local file = assert(io.open(os.getenv("REVIEW_FILE"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "application/json"
file:close()

local uid = os.getenv("REVIEW_UID")
local length = tonumber(os.getenv("ANSWER_BYTES"))
local threads = {}
wrong = 0 -- of this thread; global, so that done() can ask for it

function setup(thread)
  table.insert(threads, thread)
end

function response(status, headers, body)
  -- HAMi orders the operations of a patch anew each time, so it is not compared byte for byte.
  if status ~= 200 or #body ~= length or not body:find(uid, 1, true) then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local found = 0
  for _, thread in ipairs(threads) do
    found = found + thread:get("wrong")
  end
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "p50_us": %d, "p99_us": %d, "wrong": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), found,
    e.connect + e.read + e.write + e.timeout))
end
