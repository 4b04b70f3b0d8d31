-- Keeps or erases one user's profile; the fence of the users topic moves in the same call.
-- KEYS: meta (hash), sequence, seen, histogram, event ids, profile, last list.
-- ARGV: fence field, offset, profile JSON ('' erases the user), segments.   Returns 1 when it was new.

if tonumber(ARGV[2]) <= tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or -1) then return 0 end
if ARGV[3] == '' then
  -- the fences alone stay, for as long as a redelivery could bring old events back
  local meta, fences = redis.call('HGETALL', KEYS[1]), {}
  for i = 1, #meta, 2 do
    if string.sub(meta[i], 1, 6) == 'fence:' then fences[#fences + 1] = {meta[i], meta[i + 1]} end
  end
  redis.call('DEL', unpack(KEYS))
  for _, fence in ipairs(fences) do redis.call('HSET', KEYS[1], fence[1], fence[2]) end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'erased', 1)
  redis.call('EXPIRE', KEYS[1], 7 * 24 * 3600)
else
  redis.call('SET', KEYS[6], ARGV[3])
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'segments', ARGV[4])
  redis.call('HDEL', KEYS[1], 'erased')
  redis.call('PERSIST', KEYS[1])
end
return 1
