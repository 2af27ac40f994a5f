-- Posts workouts, each a different one: wrk -t1 -s post.lua http://... -- LABEL
local label, count = "", 0

function init(args)
  label = args[1]
end

function request()
  count = count + 1
  local body = string.format(
    '{"workout_id": "%s-%d", "user_id": "user-%d", "sport": "running", ' ..
    '"started_at": "2025-10-%02dT07:30:00+01:00", "duration_s": %d.5, "distance_m": %d, ' ..
    '"avg_heart_rate": 150, "athlete": {"weight_kg": 70}, "source": "device"}',
    label, count, count % 2000, 1 + count % 28, 1500 + count % 900, 4000 + count % 2000)
  return wrk.format("POST", "/v1/workouts", {["Content-Type"] = "application/json"}, body)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\n{"answers": %d, "duration_us": %d, "p99_us": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
