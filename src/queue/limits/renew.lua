-- A process says which permits it still holds.
-- ARGV: 11 "add" to give back slots that Redis has lost, else "renew"; then the permits
-- Returns those that have no slot (any more).
local missing = {}
for i = 12, #ARGV do
  if ARGV[11] == 'add' or redis.call('ZSCORE', SLOTS, ARGV[i]) then
    redis.call('ZADD', SLOTS, now + lease, ARGV[i])
  else
    missing[#missing + 1] = ARGV[i]
  end
end
keep()
return missing
