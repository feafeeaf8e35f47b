-- What every step of the limiter begins with: the settings, the server's time, the state, and what is over by now.
-- KEYS: 1 state, 2 calls, 3 slots, 4 line, 5 here, 6 places, 7 accounts
-- ARGV: 1 requests a window (0: any), 2 tokens a window (0: any), 3 most calls at once, 4 window, 5 a slot's lease,
--       6 failures that open the breaker (0: never), 7 how long it stays open, 8 successes that close it,
--       9 wake-up channel, 10 how long a place in the line is kept; then those of the step. Times are milliseconds.
local STATE, CALLS, SLOTS, LINE, HERE, PLACES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local ACCOUNTS = KEYS[7]
local rpm, tpm, cap = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local window, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
local trip, open_for, mend = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local channel, memory = ARGV[9], tonumber(ARGV[10])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local state = {}
local flat = redis.call('HGETALL', STATE)
for i = 1, #flat, 2 do
  state[flat[i]] = flat[i + 1]
end
-- a field that is not a number counts as absent: no value that anyone writes may stop the calls
local function num(name, default)
  return tonumber(state[name] or '') or default
end
local function set(name, value)
  if type(value) == 'number' then
    value = string.format('%.3f', value)
  end
  state[name] = value
  redis.call('HSET', STATE, name, value)
end

-- Replicas should have the same limits. Where they differ, the strictest of those that somebody asked with within the
-- last window holds for all: a looser one takes effect when nobody has the stricter one any more.
local differs = 0
local function strictest(name, mine)
  local theirs, at = num(name, 0), num(name .. '_at', 0)
  local fresh = at <= now and now - at < window
  if fresh and theirs > 0 and (mine == 0 or theirs < mine) then
    differs = 1
    return theirs
  end
  if theirs ~= mine or not fresh or now - at > window / 4 then
    set(name, mine)
    set(name .. '_at', now)
  end
  return mine
end
local before = num('cap', 0)
rpm, tpm, cap = strictest('rpm', rpm), strictest('tpm', tpm), strictest('cap', cap)
if cap > before and num('limit', 0) >= before then
  -- it was at its cap and not lowered by the server: so it is with the new one
  set('limit', cap)
end

-- The clamps are for a server whose clock was set back: no pause outlasts its longest by that.
local limit = math.max(1, math.min(cap, num('limit', cap)))
local paused = math.min(num('paused_until', 0), now + 3600000)
local open_until = math.min(num('open_until', 0), now + open_for)
local tripped = open_until > 0 and trip > 0
local generation = num('generation', 0)
if generation == 0 then
  -- never twice the same, also not after a wipe: a permit's result counts only in the generation of its grant
  generation = now
  set('generation', generation)
end

redis.call('ZREMRANGEBYSCORE', SLOTS, '-inf', now)
redis.call('ZREMRANGEBYSCORE', SLOTS, now + 10 * lease, '+inf')
local flying = redis.call('ZCARD', SLOTS)
local probing = tripped and state.probe ~= nil and state.probe ~= '' and redis.call('ZSCORE', SLOTS, state.probe)

-- The log of the window's calls: exact, whatever the pace let through.
local spent = num('spent', 0)
local function tokens_of(member)
  return tonumber(string.match(member, ':(%d+)$') or '') or 0
end
repeat
  local old = redis.call('ZRANGEBYSCORE', CALLS, '-inf', now - window, 'LIMIT', 0, 1000)
  if #old > 0 then
    redis.call('ZREM', CALLS, unpack(old))
    for _, member in ipairs(old) do
      spent = spent - tokens_of(member)
    end
  end
until #old < 1000
redis.call('ZREMRANGEBYSCORE', CALLS, now + window, '+inf')
local used = redis.call('ZCARD', CALLS)
if used == 0 or spent < 0 then
  spent = 0
end

-- The pace spreads the calls over the window; a short burst makes up for grants that came late. Each is the time at
-- which the next grant is due, and may lie ahead by the burst.
local step = rpm > 0 and window / rpm or 0
local burst = math.max(4 * step, window / 60)
local pace = math.max(math.min(num('pace', 0), now + window + burst), now)
local token_step = tpm > 0 and window / tpm or 0
local token_burst = window / 10
local token_pace = math.max(math.min(num('token_pace', 0), now + 2 * window), now)

-- How long the call at this place in the line has to wait for the requests.
local function requests_wait(rank)
  if rpm == 0 then
    return 0
  end
  local wait = pace + rank * step - burst - now
  if used + rank >= rpm then
    local first = redis.call('ZRANGE', CALLS, used + rank - rpm, used + rank - rpm, 'WITHSCORES')
    wait = math.max(wait, (tonumber(first[2] or '') or now) + window - now + 1)
  end
  return math.max(0, math.ceil(wait))
end

-- Wakes the first of the line, if anything is free for it. It wakes the next one when it has its permit.
local function call_next()
  local free = math.floor(limit) - redis.call('ZCARD', SLOTS)
  if tripped then
    free = (open_until <= now and not probing) and 1 or 0
  end
  if free <= 0 or paused > now or requests_wait(0) > 0 then
    return nil
  end
  local first = redis.call('ZRANGE', LINE, 0, 0)[1]
  if first then
    redis.call('PUBLISH', channel, first)
  end
  return first
end

-- Nothing is kept for ever; the state a little longer, because what was learned of the server is in it.
local function keep()
  local ttl = math.ceil(math.max(120000, 2 * window, 10 * lease, 2 * open_for, 2 * memory) + math.max(0, paused - now))
  redis.call('PEXPIRE', STATE, ttl + 3600000)
  for i = 2, 7 do
    redis.call('PEXPIRE', KEYS[i], ttl)
  end
end
