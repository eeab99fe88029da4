-- Licensed under the Apache License, Version 2.0; see LICENSE.
--
-- For t/bench/bench.pl: a POST of BENCH_BODY bytes if that is set, and the
-- result in one line: microseconds, requests, errors of connections, answers
-- that are no success, p50, p95 and p99 in microseconds.
local size = tonumber(os.getenv("BENCH_BODY") or "0")
if size > 0 then
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/octet-stream"
    wrk.body = string.rep("x", size)
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format("RESULT %d %d %d %d %d %d %d\n",
        summary.duration, summary.requests,
        e.connect + e.read + e.write + e.timeout, e.status,
        latency:percentile(50), latency:percentile(95),
        latency:percentile(99)))
end
