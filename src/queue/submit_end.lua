-- An envelope has been dealt with: all that Redis has of it goes, and its producer is told.
-- KEYS: 1 active, 2 data, 3 taken, 4 its receipt, 5 the set-aside list
-- ARGV: 1 id, 2 meta prefix, 3 receipt ('' for none), 4 seconds that it is kept, 5 why it is set aside ('' if it isn't),
--       6 what is kept of it, 7 most kept aside, 8 queue, 9 seconds that its end is remembered
local id, meta = ARGV[1], ARGV[2] .. ':' .. ARGV[1]
-- its taker was taken for dead: a copy may wait
if redis.call('ZREM', KEYS[3], id) == 0 then
  redis.call('LREM', KEYS[1], 0, id)
end
redis.call('HDEL', KEYS[2], id)
-- a producer that pushed it twice must not be taken for one that forgot its data
redis.call('DEL', meta)
redis.call('HSET', meta, 'status', 'Done')
redis.call('EXPIRE', meta, ARGV[9])
-- pcall: a broken key of one producer's must not stop the queue
if ARGV[5] ~= '' then
  redis.pcall('LPUSH', KEYS[5], cjson.encode({
    queue = ARGV[8], id = string.sub(id, 1, 200), reason = ARGV[5], payload = ARGV[6],
    at = tonumber(redis.call('TIME')[1]),
  }))
  redis.pcall('LTRIM', KEYS[5], 0, ARGV[7] - 1)
end
if ARGV[3] ~= '' and tonumber(ARGV[4]) > 0 then
  redis.call('DEL', KEYS[4])
  redis.call('RPUSH', KEYS[4], ARGV[3])
  redis.call('EXPIRE', KEYS[4], ARGV[4])
end
return 1
