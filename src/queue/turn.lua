-- One turn of a worker: settle what ended, push and take what this process hands on to itself, then take up to n jobs.
-- One round trip for all.
-- KEYS: 1 active, 2 data, 3 this worker's in-flight set, 4 workers, 5 schedule, 6 the set-aside list, 7 first
-- ARGV: 1 n, 2 worker, 3 meta prefix, 4 queue, 5 wake-up channel, 6 most kept aside, 7 largest payload in bytes,
--       8 how many more may be taken from the front alone, 9 how many are handed on, then (id, payload)* of those, then
--       (kind, id, reason)* with kind one of done, back, bad
-- Returns: how many were popped of n, how many of those from the front alone, {id, payload, ...} with the latter
--          before the others, how many of those jobs are the latter, {id of one set aside, reason, ...}
local active, data, inflight, workers, scheduled, aside = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local first = KEYS[7]
local n, worker, meta, queue = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local keep, largest, extra = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = tonumber(time[1])

-- a key of a wrong type must fail here, before anything is popped
redis.call('SCARD', inflight)
redis.call('HLEN', data)
local waiting, ahead = redis.call('LLEN', active), redis.call('LLEN', first)

local function forget(id)
  redis.call('HDEL', data, id)
  redis.call('DEL', meta .. ':' .. id)
end

-- pcall: a broken list must not stop the queue
local function set_aside(id, reason, payload)
  redis.pcall('LPUSH', aside, cjson.encode({
    queue = queue, id = id, reason = reason, at = now,
    payload = string.sub(payload or '', 1, 4096),
  }))
  redis.pcall('LTRIM', aside, 0, keep - 1)
end

local handed = tonumber(ARGV[9])
for i = 10, 8 + 2 * handed, 2 do
  local id = ARGV[i]
  redis.call('HSET', data, id, ARGV[i + 1])
  redis.call('HSET', meta .. ':' .. id, 'attempts', 0, 'max_attempts', 1, 'status', 'Pending')
  redis.call('SADD', inflight, id)
end
if handed > 0 then
  redis.call('ZADD', workers, now, worker)
end

local returned = nil
for i = 10 + 2 * handed, #ARGV, 3 do
  local kind, id = ARGV[i], ARGV[i + 1]
  -- not ours any more (swept, or Redis was flushed and the id rung anew): then it isn't ours to delete either
  if redis.call('SREM', inflight, id) == 1 then
    if kind == 'back' then
      if redis.call('HEXISTS', data, id) == 1 then
        redis.call('LPUSH', active, id)
        returned = id
      end
    else
      if kind == 'bad' then
        set_aside(id, ARGV[i + 2], redis.call('HGET', data, id))
      end
      forget(id)
    end
  end
end
if returned then
  redis.call('PUBLISH', ARGV[5], returned)
end

local jobs, refused, popped, ahead_of_all, of_those = {}, {}, 0, 0, 0
if n + extra > 0 then
  -- a stock producer schedules everything it pushes; bounded, so that no number of due ids can break the script
  local due = redis.call('ZRANGEBYSCORE', scheduled, 0, now, 'LIMIT', 0, 100)
  for _, id in ipairs(due) do
    redis.call('ZREM', scheduled, id)
    redis.call('RPUSH', active, id)
  end
  if waiting + #due + ahead > 0 or returned then
    -- whoever holds something is registered, also right after a flush: else nobody would find its orphans
    redis.call('ZADD', workers, now, worker)
    -- Three of four from the front: whoever is behind is slower for it, but never stands still. Of a single one
    -- the clock decides.
    local ids = ahead > 0 and extra > 0 and redis.call('LPOP', first, extra) or {}
    ahead_of_all = #ids
    local front = n - math.floor(n / 4)
    if n < 4 and waiting > 0 and tonumber(time[2]) % 4 == 0 then
      front = n - 1
    end
    local function take(list, most)
      for _, id in ipairs(most > 0 and redis.call('LPOP', list, most) or {}) do
        ids[#ids + 1] = id
        popped = popped + 1
      end
    end
    take(first, front)
    take(active, n - popped)
    -- nothing else was there: then the front may have it all
    take(first, n - popped)
    for place, id in ipairs(ids) do
      local size = redis.call('HSTRLEN', data, id)
      local payload = size > 0 and size <= largest and redis.call('HGET', data, id) or nil
      local fields = redis.pcall('HMGET', meta .. ':' .. id, 'attempts', 'max_attempts', 'status')
      local whole = not fields.err and fields[1] and fields[2] and fields[3]
      if payload and whole then
        redis.call('SADD', inflight, id)
        jobs[#jobs + 1] = id
        jobs[#jobs + 1] = payload
        of_those = of_those + (place <= ahead_of_all and 1 or 0)
      elseif not (size == 0 and not fields.err and not fields[1] and string.match(id, '^%l+:%x+:%-?%d+$')) then
        local reason = 'its meta lacks attempts, max_attempts or status'
        if size == 0 then
          reason = 'it has no data'
        elseif size > largest then
          reason = 'its payload is larger than ' .. largest .. ' bytes'
        end
        set_aside(id, reason, size > 0 and redis.call('HGET', data, id) or nil)
        forget(id)
        refused[#refused + 1] = id
        refused[#refused + 1] = reason
      end
      -- else: our own id without anything is the second copy of a job that was rung again and has ended since
    end
  end
end
return {popped, ahead_of_all, jobs, of_those, refused}
