-- Keeps whom one user follows, the newest first; what is delivered again changes nothing.
-- KEYS: state (hash), follows (sorted set, by the time of the event).
-- ARGV: the most kept, then time in ms, user id and whether it begins (1) or ends (0), in the order of arrival.

if redis.call('HEXISTS', KEYS[1], 'erased') == 1 then return 0 end
for i = 2, #ARGV, 3 do
  local ts, user = ARGV[i], ARGV[i + 1]
  if ARGV[i + 2] == '1' then
    redis.call('ZADD', KEYS[2], 'GT', ts, user)
  else
    local since = redis.call('ZSCORE', KEYS[2], user)
    if since and tonumber(since) <= tonumber(ts) then redis.call('ZREM', KEYS[2], user) end
  end
end
return redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[1]) - 1)
