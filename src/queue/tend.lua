-- A worker's heartbeat: say that it lives, and clear away those of its queue that died.
-- KEYS: 1 workers, 2 active, 3 data, 4 this worker's in-flight set, 5 the list of queues, 6 first
-- ARGV: 1 worker, 2 meta prefix, 3 in-flight prefix, 4 workers' metadata prefix, 5 seconds of silence that mean
--       death, 6 slots, 7 job type
-- Returns: this worker's in-flight ids, how many orphans were dropped
local workers, active, data, inflight = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local worker, meta = ARGV[1], ARGV[2]
local now = tonumber(redis.call('TIME')[1])

redis.call('ZADD', workers, now, worker)
redis.call('HSET', ARGV[4] .. ':' .. worker, 'backend_name', 'StageQueue', 'service', ARGV[7], 'slots', ARGV[6])
redis.call('ZADD', KEYS[5], 'GT', now, workers)

local dropped = 0
local dead = redis.call('ZRANGEBYSCORE', workers, 0, now - tonumber(ARGV[5]), 'LIMIT', 0, 20)
for _, name in ipairs(dead) do
  local held = ARGV[3] .. ':' .. name
  for _, id in ipairs(redis.call('SMEMBERS', held)) do
    if not redis.call('LPOS', active, id) and not redis.call('LPOS', KEYS[6], id) then
      redis.call('HDEL', data, id)
      redis.call('DEL', meta .. ':' .. id)
      dropped = dropped + 1
    end
  end
  redis.call('DEL', held, ARGV[4] .. ':' .. name)
  redis.call('ZREM', workers, name)
end
return {redis.call('SMEMBERS', inflight), dropped}
