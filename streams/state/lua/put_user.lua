-- Keeps or erases one user's profile; the fence of the users topic moves in the same call.
-- KEYS: state (hash), recent, profile, last list, follows, searched.
-- ARGV: fence field, offset, profile JSON ('' erases the user), segments.   Returns 1 when it was new.

local state = KEYS[1]
if tonumber(ARGV[2]) <= tonumber(redis.call('HGET', state, ARGV[1]) or -1) then return 0 end
if ARGV[3] == '' then
  -- the fences alone stay, for as long as a redelivery could bring old events back
  local fields, fences = redis.call('HGETALL', state), {}
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 6) == 'fence:' then fences[#fences + 1] = {fields[i], fields[i + 1]} end
  end
  redis.call('DEL', unpack(KEYS))
  for _, fence in ipairs(fences) do redis.call('HSET', state, fence[1], fence[2]) end
  redis.call('HSET', state, ARGV[1], ARGV[2], 'erased', 1)
  redis.call('EXPIRE', state, 7 * 24 * 3600)
else
  redis.call('SET', KEYS[3], ARGV[3])
  redis.call('HSET', state, ARGV[1], ARGV[2], 'segments', ARGV[4])
  redis.call('HDEL', state, 'erased')
  redis.call('PERSIST', state)
end
return 1
