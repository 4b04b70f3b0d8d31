-- What a list is made of, for several users; each gets the next sequence number of its lists, or keeps the last.
-- KEYS: per user: state (hash), recent (string), profile (string), follows, searched (sorted sets).
-- ARGV: what the number grows by, how many of those followed are wanted
-- Returns per user {list number or nil, recent or nil, {field, value, ...} of state, profile or nil,
-- {word, ts, ...} searched for, {followed, ...}}: as Redis has it, for what costs here is the count of Lua objects that are looked at.

local more, friends = tonumber(ARGV[1]), tonumber(ARGV[2])
local out = {}
for u = 1, #KEYS / 5 do
  local state, recent, profile, follows, searched = unpack(KEYS, 5 * u - 4, 5 * u)
  local fields = redis.call('HGETALL', state)
  out[u] = {
    more > 0 and redis.call('HINCRBY', state, 'lists', more) or false,
    redis.call('GET', recent),
    fields,
    redis.call('GET', profile),
    redis.call('ZREVRANGE', searched, 0, -1, 'WITHSCORES'),
    friends > 0 and redis.call('ZREVRANGE', follows, 0, friends - 1) or {},
  }
end
return out
