-- Keeps item records of one partition of the items topic; its fence moves in the same call.
-- KEYS: records (hash: number -> JSON), changes (zset: number by version), meta (hash), all of the catalogue.
-- ARGV: fence field, then per record: offset, number, JSON.   Returns how many were new.

local fence = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or -1)
local last, applied = fence, 0
for i = 2, #ARGV, 3 do
  local offset = tonumber(ARGV[i])
  if offset > fence then
    if applied == 0 then redis.call('HINCRBY', KEYS[3], 'version', 1) end
    redis.call('HSET', KEYS[1], ARGV[i + 1], ARGV[i + 2])
    redis.call('ZADD', KEYS[2], redis.call('HGET', KEYS[3], 'version'), ARGV[i + 1])
    last, applied = offset, applied + 1
  end
end
if applied > 0 then redis.call('HSET', KEYS[3], ARGV[1], last) end
return applied
