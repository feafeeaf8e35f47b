-- A worker that stops takes its name off the list; whatever it still holds goes back to the front.
-- KEYS: 1 workers, 2 active, 3 data, 4 this worker's in-flight set, 5 this worker's metadata
-- ARGV: 1 worker, 2 wake-up channel
local held = redis.call('SMEMBERS', KEYS[4])
for _, id in ipairs(held) do
  if redis.call('HEXISTS', KEYS[3], id) == 1 then
    redis.call('LPUSH', KEYS[2], id)
    redis.call('PUBLISH', ARGV[2], id)
  end
end
redis.call('DEL', KEYS[4], KEYS[5])
redis.call('ZREM', KEYS[1], ARGV[1])
return #held
