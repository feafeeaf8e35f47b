-- How it stands. Returns: breaker (0 closed, 1 open, 2 half-open), how long it stays open, failures in a row, how long
-- the pause lasts, calls in flight, most calls now, waiters, calls and tokens in the window
local breaker = tripped and (open_until > now and 1 or 2) or 0
return {
  breaker, math.max(0, open_until - now), num('failures', 0), math.max(0, paused - now), flying, math.floor(limit),
  redis.call('ZCARD', LINE), used, spent,
}
