-- wrk's requests: the events of generator/payload.js, another number in each, as raw request text.
-- Arguments: a file with one event a line, the number of users.

local threads = 0
local NUMBERS_PER_THREAD = 2000000000

function setup(thread)
  thread:set("index", threads)
  threads = threads + 1
end

local function split(text, mark)
  local from, to = text:find(mark, 1, true)
  return text:sub(1, from - 1), text:sub(to + 1)
end

function init(args)
  users = tonumber(args[2])
  number = index * NUMBERS_PER_THREAD
  turn = 0
  templates = {}
  for line in io.lines(args[1]) do
    local head = string.format(
      "POST %s HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
      wrk.path, wrk.host, wrk.port, #line)
    local toUser, rest = split(head .. line, "UUUUUUU")
    local toSeconds, rest2 = split(rest, "TTTTTTTTTT")
    local toNumber, last = split(rest2, "NNNNNNNNNN")
    templates[#templates + 1] = { toUser, toSeconds, toNumber, last }
  end
end

function request()
  local t = templates[turn % #templates + 1]
  turn = turn + 1
  local n = number
  number = n + 1
  return t[1] .. string.format("%07d", n % users) .. t[2] .. os.time() .. t[3] .. string.format("%010.0f", n) .. t[4]
end

local function cpuMs()
  local text = io.open("/proc/self/stat"):read("*a")
  local i, user, system = 0, 0, 0
  for field in text:match(".*%) (.*)"):gmatch("%S+") do
    i = i + 1
    if i == 12 then user = tonumber(field) elseif i == 13 then system = tonumber(field) end
  end
  return (user + system) * 10
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"durationUs":%d,"statusErrors":%d,"socketErrors":%d,"p50":%d,"p90":%d,"p95":%d,"p99":%d,"p999":%d,"max":%d,"cpuMs":%d}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(95), latency:percentile(99),
    latency:percentile(99.9), latency.max, cpuMs()))
end
