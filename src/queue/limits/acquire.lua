-- One look of a waiter: its place in the line, and a permit if its turn has come.
-- ARGV: 11 permit, 12 ticket, 13 tokens (estimate), 14 how long the waiter still waits, 15 whose call it is,
--       16 the weight of that, 17 tokens that a newcomer is ahead of the others
-- Returns {1, generation, now, whether it is the breaker's probe}, or {0, reason, wait, whether it stays in the line, how many are before it, failures};
-- and at the end, whether others have stricter limits, which hold here too
local id, ticket, tokens, left = ARGV[11], ARGV[12], tonumber(ARGV[13]), tonumber(ARGV[14])

-- asked again because the answer got lost
if redis.call('ZSCORE', SLOTS, id) then
  return {1, generation, now, tripped and state.probe == id and 1 or 0, differs}
end

-- Waiters that fell silent block nobody from now on, but keep their place for a while.
local pruned = num('pruned', 0)
if pruned > now then
  pruned = 0
end
local lapsed = redis.call('ZRANGEBYSCORE', HERE, '(' .. string.format('%d', pruned), now)
for _, silent in ipairs(lapsed) do
  redis.call('ZREM', LINE, silent)
end
set('pruned', now)
local forgotten = redis.call('ZRANGEBYSCORE', HERE, '-inf', now - memory, 'LIMIT', 0, 500)
for _, gone in ipairs(forgotten) do
  redis.call('ZREM', HERE, gone)
  redis.call('HDEL', PLACES, gone)
end

local place = tonumber(redis.call('HGET', PLACES, ticket) or '')
if not place then
  -- Start-time fair queueing: a call's place is where its owner's calls have come to, in tokens by weight. Whoever
  -- comes anew begins a little ahead of where the line is; within one owner it is first come, first served.
  local owner, behind = ARGV[15], num('served', 0) - tonumber(ARGV[17])
  local account = tonumber(redis.call('HGET', ACCOUNTS, owner) or '') or behind
  place = math.max(account, behind)
  redis.call('HSET', ACCOUNTS, owner, string.format('%.3f', place + math.max(tokens, 1) / tonumber(ARGV[16])))
  redis.call('HSET', PLACES, ticket, string.format('%.3f', place))
  if redis.call('HLEN', ACCOUNTS) > 1000 then
    local all = redis.call('HGETALL', ACCOUNTS)
    for i = 1, #all, 2 do
      if (tonumber(all[i + 1]) or behind) <= behind then
        redis.call('HDEL', ACCOUNTS, all[i])
      end
    end
  end
end
redis.call('ZADD', LINE, place, ticket)
local rank = redis.call('ZRANK', LINE, ticket)

-- What stands in the way, and for how long. The clearest reason wins: who is paused has no use for a free slot.
local REQUESTS, TOKENS, CONCURRENCY, PAUSED, OPEN, PROBING, TURN = 1, 2, 3, 4, 5, 6, 7
local reason, wait, known = nil, 0, false
local free = math.floor(limit) - flying
-- a waiter that is not called looks again by itself, the rarer the farther back it stands
local look = 250 * (rank + 1)

if tripped and open_until > now then
  reason, wait, known = OPEN, open_until - now, true
elseif paused > now then
  reason, wait, known = PAUSED, paused - now, true
elseif probing then
  reason, wait = PROBING, look
elseif tripped and rank > 0 then
  reason, wait = PROBING, look
elseif free <= rank and not tripped then
  reason, wait = free <= 0 and CONCURRENCY or TURN, look
else
  local asked = requests_wait(rank)
  if asked > 0 then
    reason, wait = REQUESTS, asked
  elseif tpm > 0 then
    if rank > 0 then
      -- only the first is measured against the tokens: else small calls would pass a large one for ever
      reason, wait = TURN, math.min(look, 50 * (rank + 1))
    else
      wait = math.max(0, token_pace - token_burst - now)
      -- a call that is larger than the whole limit goes alone
      local excess = math.min(spent + tokens - tpm, spent)
      if excess > 0 then
        local oldest = redis.call('ZRANGE', CALLS, 0, 99, 'WITHSCORES')
        for i = 1, #oldest, 2 do
          excess = excess - tokens_of(oldest[i])
          wait = math.max(wait, tonumber(oldest[i + 1]) + window - now + 1)
          if excess <= 0 then
            break
          end
        end
      end
      if wait > 0 then
        reason = TOKENS
      end
    end
  end
end

if not reason then
  set('served', math.max(num('served', 0), place))
  redis.call('ZREM', LINE, ticket)
  redis.call('ZREM', HERE, ticket)
  redis.call('HDEL', PLACES, ticket)
  redis.call('ZADD', SLOTS, now + lease, id)
  if rpm > 0 or tpm > 0 then
    redis.call('ZADD', CALLS, now, id .. ':' .. string.format('%d', tokens))
    pace, token_pace = pace + step, token_pace + tokens * token_step
    used, spent = used + 1, spent + tokens
    set('pace', pace)
    set('token_pace', token_pace)
  end
  set('spent', spent)
  if tripped then
    set('probe', id)
    probing = true
  end
  call_next()
  keep()
  return {1, generation, now, tripped and 1 or 0, differs}
end

-- Those that wait for a moment all know it; they shall not all ask in the same millisecond.
wait = math.ceil(wait)
if known then
  wait = wait + math.min(2 * rank, 2000)
end
local stays = left > 0 and not (known and wait > left)
if stays then
  redis.call('ZADD', HERE, now + math.min(wait, left) + 1000, ticket)
  -- Something is free and the first does not take it: call it once more, and if it is dead, soon pass it.
  if rank > 0 and not known then
    local first = call_next()
    if first then
      redis.call('ZADD', HERE, 'LT', now + 500, first)
    end
  end
else
  -- It goes away and comes back: by then its turn should be near. Never much later, for those before it may vanish.
  if reason == CONCURRENCY or reason == TURN or reason == PROBING then
    wait = math.max(250, math.ceil((rank + 1) * num('latency', 1000) / limit))
  end
  if not known then
    wait = math.min(wait, 20000)
  end
  redis.call('ZREM', LINE, ticket)
  redis.call('ZADD', HERE, now + wait, ticket)
  call_next()
end
set('spent', spent)
keep()
return {0, reason, wait, stays and 1 or 0, rank, num('failures', 0), differs}
