-- The end of a call: its slot is free, its tokens are what they were, and what it says about the server is drawn on.
-- ARGV: 11 permit, 12 tokens reserved, 13 end (answered, throttled, failed, refused, unsent, dropped), 14 tokens used,
--       15 latency, 16 retry after (-1: not said), 17 generation and 18 time of the grant
-- Returns {what became of the breaker: 0 nothing, 1 opened, 2 closed; failures, how long it is open, how long calls pause}
local id, reserved, how = ARGV[11], tonumber(ARGV[12]), ARGV[13]
local actual, latency, after = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])
local born, granted = tonumber(ARGV[17]), tonumber(ARGV[18])

redis.call('ZREM', SLOTS, id)

if how == 'answered' or how == 'unsent' then
  local member = id .. ':' .. string.format('%d', reserved)
  local at = redis.call('ZSCORE', CALLS, member)
  if at then
    if how == 'unsent' then
      actual = 0
      redis.call('ZREM', CALLS, member)
    elseif actual ~= reserved then
      redis.call('ZREM', CALLS, member)
      redis.call('ZADD', CALLS, at, id .. ':' .. string.format('%d', actual))
    end
    spent = math.max(0, spent + actual - reserved)
    token_pace = math.max(now, token_pace + (actual - reserved) * token_step)
    set('token_pace', token_pace)
  end
end
set('spent', spent)

local alive = how == 'answered' or how == 'refused'
local OPENED, CLOSED = 1, 2
local turned = 0

-- The breaker: a result of another generation is of calls granted before it opened or closed, and says nothing now.
if trip > 0 and born == generation then
  local failures = num('failures', 0)
  if not tripped then
    if how == 'failed' then
      failures = failures + 1
      set('failures', failures)
      if failures >= trip then
        open_until, tripped, turned = now + open_for, true, OPENED
        set('open_until', open_until)
        set('generation', generation + 1)
        set('successes', 0)
        set('probe', '')
      end
    elseif alive and failures > 0 then
      set('failures', 0)
    end
  elseif state.probe == id then
    probing = false
    set('probe', '')
    if how == 'failed' then
      open_until, turned = now + open_for, OPENED
      set('open_until', open_until)
      set('generation', generation + 1)
      set('successes', 0)
      set('failures', failures + 1)
    elseif alive then
      local successes = num('successes', 0) + 1
      set('successes', successes)
      if successes >= mend then
        open_until, tripped, turned = 0, false, CLOSED
        set('open_until', 0)
        set('generation', generation + 1)
        set('failures', 0)
      end
    end
  end
end

-- How many at once: a cut for a throttled round or a latency that doubled, one step up for a round that went well.
-- A round is what was granted after the last cut, so that sixteen 429s at once are one cut, and one pause.
local fresh = granted > num('cut_at', 0)
if how == 'throttled' then
  if fresh then
    limit = math.max(1, math.min(limit, flying) * 0.7)
    set('limit', limit)
    set('cut_at', now)
    local throttles = num('throttles', 0) + 1
    set('throttles', throttles)
    if after < 0 then
      paused = math.max(paused, now + math.min(60000, 1000 * 2 ^ math.min(throttles - 1, 10)))
    end
  end
  if after >= 0 then
    paused = math.max(paused, now + after)
  end
  set('paused_until', paused)
elseif how == 'answered' then
  local seen, long, short = num('seen', 0), num('latency', latency), num('latency_now', latency)
  if seen >= 20 then
    -- one call that hung must not look like a slow server
    latency = math.min(latency, 4 * long)
  end
  long = long + (latency - long) * math.max(0.01, 1 / (seen + 1))
  short = short + (latency - short) * 0.1
  local since = num('since_cut', 0) + 1
  local busy = flying * 2 >= limit
  if busy and fresh and seen >= 50 and since >= 10 and short > 2 * long then
    limit = math.max(1, limit * 0.8)
    set('cut_at', now)
    short, since = long, 0
  elseif fresh then
    if num('throttles', 0) > 0 then
      set('throttles', 0)
    end
    if busy and limit < cap then
      limit = math.min(cap, limit + math.max(1, cap / 20) / limit)
    end
  end
  set('limit', limit)
  set('seen', math.min(seen + 1, 1000))
  set('latency', long)
  set('latency_now', short)
  set('since_cut', since)
end

call_next()
keep()
return {turned, num('failures', 0), math.max(0, math.ceil(open_until - now)), math.max(0, math.ceil(paused - now))}
