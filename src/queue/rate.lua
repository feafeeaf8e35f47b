-- Takes one request out of an organization's bucket, which fills up steadily.
-- KEYS: 1 the bucket, 2 the replicas that ask
-- ARGV: 1 requests a second, 2 burst, 3 this replica, 4 milliseconds for which a replica counts
-- Returns: 1 or 0, requests left, microseconds until one is there, microseconds until all are, replicas
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rate, burst = tonumber(ARGV[1]) / 1000000, tonumber(ARGV[2])
local held = redis.call('HMGET', KEYS[1], 'left', 'at')
local left, at = tonumber(held[1]) or burst, tonumber(held[2]) or now
left = math.min(burst, left + math.max(0, now - at) * rate)
local allowed = 0
if left >= 1 then
  allowed, left = 1, left - 1
end
redis.call('HSET', KEYS[1], 'left', string.format('%.6f', left), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate / 1000) + 1000)
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', now - ARGV[4] * 1000))
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local wait = 0
if left < 1 then
  wait = math.ceil((1 - left) / rate)
end
return { allowed, math.floor(left), wait, math.ceil((burst - left) / rate), redis.call('ZCARD', KEYS[2]) }
