-- Take envelopes, up to a number and a size. First those come back whose taker has died, and those that are due again.
-- KEYS: 1 active, 2 data, 3 taken (id -> until, in ms), 4 schedule (id -> due, in seconds), 5 the set-aside list
-- ARGV: 1 how many, 2 how many bytes (one may have more), 3 lease in ms, 4 meta prefix, 5 largest envelope in bytes,
--       6 queue, 7 most kept aside
-- Returns: {id, payload, bytes, how often it was taken, ms since the first time, ...}, 1 if there may be more
local active, data, taken, scheduled, aside = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local most, room, meta = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[4]
local largest = tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- a key of a wrong type must fail here, before anything is popped
redis.call('HLEN', data)
redis.call('LLEN', active)

for _, id in ipairs(redis.call('ZRANGEBYSCORE', taken, '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', taken, id)
  redis.call('LPUSH', active, id)
end
local due = string.format('%.3f', now / 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', scheduled, '-inf', due, 'LIMIT', 0, 100)) do
  redis.call('ZREM', scheduled, id)
  redis.call('RPUSH', active, id)
end

local envelopes, bytes, looked, more = {}, 0, 0, 0
while #envelopes < most * 5 and looked < 1000 do
  local id = redis.call('LPOP', active)
  if not id then
    break
  end
  looked = looked + 1
  -- a second copy of one that is in work would be the same work
  if not redis.call('ZSCORE', taken, id) then
    local size = redis.call('HSTRLEN', data, id)
    local key = meta .. ':' .. id
    if size == 0 then
      local status = redis.pcall('HGET', key, 'status')
      if status ~= 'Done' then
        redis.pcall('LPUSH', aside, cjson.encode({
          queue = ARGV[6], id = string.sub(id, 1, 200), reason = 'it has no data', payload = '', at = tonumber(time[1]),
        }))
        redis.pcall('LTRIM', aside, 0, ARGV[7] - 1)
        redis.call('DEL', key)
      end
    elseif bytes > 0 and size <= largest and bytes + size > room then
      redis.call('LPUSH', active, id)
      more = 1
      break
    else
      local payload = ''
      if size <= largest then
        payload = redis.call('HGET', data, id)
        bytes = bytes + size
      end
      local times = redis.pcall('HINCRBY', key, 'attempts', 1)
      if type(times) ~= 'number' then
        redis.call('DEL', key)
        times = redis.call('HINCRBY', key, 'attempts', 1)
      end
      redis.call('PERSIST', key)
      redis.call('HSETNX', key, 'taken_at', string.format('%.0f', now))
      redis.call('HSET', key, 'status', 'Running')
      local since = tonumber(redis.call('HGET', key, 'taken_at')) or now
      redis.call('ZADD', taken, now + tonumber(ARGV[3]), id)
      for _, value in ipairs({ id, payload, size, times, math.max(0, now - since) }) do
        envelopes[#envelopes + 1] = value
      end
    end
  end
end
if #envelopes >= most * 5 or looked >= 1000 then
  more = 1
end
return { envelopes, more }
