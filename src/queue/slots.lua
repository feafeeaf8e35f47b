-- How many slots the living workers of each queue have.
-- KEYS: each queue's workers; ARGV: 1 seconds of silence that mean death
local since = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[1])
local slots = {}
for i, workers in ipairs(KEYS) do
  slots[i] = 0
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', workers, '(' .. since, '+inf')) do
    slots[i] = slots[i] + (tonumber(redis.call('HGET', workers .. ':metadata:' .. name, 'slots') or 0) or 0)
  end
end
return slots
