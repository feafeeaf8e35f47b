-- Push if absent, many at a time, straight into the active list (never through the schedule, which the stock
-- worker can't empty once some 8,000 are due).
-- KEYS: 1 data, 2 the list to push to, 3 the queue's other list
-- ARGV: 1 window, 2 "1" to push again what waits nowhere, 3 meta prefix, 4 wake-up channel, then (id, payload)*
-- Returns for each pair: 0 full, 1 pushed, 2 present
local data, list, other = KEYS[1], KEYS[2], KEYS[3]
local window, again, meta = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3]
local waiting = redis.call('LLEN', list)
local rungs, last = {}, nil

for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  local known = redis.call('HEXISTS', data, id) == 1
  -- a known id that waits nowhere is in flight, or its worker died: a second delivery is harmless
  local waits = again and (redis.call('LPOS', list, id) or redis.call('LPOS', other, id))
  if known and not (again and not waits) then
    rungs[#rungs + 1] = 2
  elseif waiting >= window then
    rungs[#rungs + 1] = 0
  else
    redis.call('HSET', data, id, ARGV[i + 1])
    redis.call('HSET', meta .. ':' .. id, 'attempts', 0, 'max_attempts', 1, 'status', 'Pending')
    redis.call('RPUSH', list, id)
    waiting, last = waiting + 1, id
    rungs[#rungs + 1] = 1
  end
end

-- one wake-up for the whole call: whoever wakes takes as much as it has slots for
if last then
  redis.call('PUBLISH', ARGV[4], last)
end
return rungs
