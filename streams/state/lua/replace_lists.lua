-- Replaces the last list of several users by one made for no event, which takes the user's next number.
-- A list is left as it is when its user was erased meanwhile, or when another list took the number.
-- KEYS: per user: state (hash), last list (string).   ARGV: per user: the number, the list as JSON.
-- Returns 1 or 0 per user: whether the list was replaced.

local replaced = {}
for u = 1, #KEYS / 2 do
  local state, list = KEYS[2 * u - 1], KEYS[2 * u]
  local number, before = ARGV[2 * u - 1], tonumber(redis.call('HGET', state, 'lists') or 0)
  replaced[u] = 0
  if before + 1 == tonumber(number) and redis.call('EXISTS', list) == 1 then
    redis.call('HSET', state, 'lists', number)
    redis.call('SET', list, ARGV[2 * u])
    replaced[u] = 1
  end
end
return replaced
