-- An envelope could not be dealt with now: it comes again after a while, and this time does not count.
-- KEYS: 1 taken, 2 schedule
-- ARGV: 1 id, 2 meta prefix, 3 ms
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local due = time[1] + time[2] / 1000000 + ARGV[3] / 1000
redis.call('ZADD', KEYS[2], string.format('%.3f', due), ARGV[1])
local meta = ARGV[2] .. ':' .. ARGV[1]
redis.pcall('HINCRBY', meta, 'attempts', -1)
redis.pcall('HSET', meta, 'status', 'Pending')
return 1
