-- What a list is made of, for several users; each gets the next sequence number of its lists, or keeps the last.
-- KEYS: per user: state (hash), recent (string), profile (string).
-- ARGV: histogram entries wanted, what the number grows by
-- Returns per user {list number, recent, seen, {key, weight, ...} heaviest first, profile or ''}

local wanted, more = tonumber(ARGV[1]), tonumber(ARGV[2])
local out = {}
for u = 1, #KEYS / 3 do
  local state, recent, profile = unpack(KEYS, 3 * u - 2, 3 * u)
  local fields, number, seen, histogram, heaviest = redis.call('HGETALL', state), 0, '', {}, {}
  for i = 1, #fields, 2 do
    if string.byte(fields[i]) == 58 then
      histogram[#histogram + 1] = {struct.unpack('<d', fields[i + 1]), fields[i], fields[i + 1]}
    elseif fields[i] == 'seen' then
      seen = fields[i + 1]
    elseif fields[i] == 'lists' then
      number = tonumber(fields[i + 1])
    end
  end
  table.sort(histogram, function(a, b) if a[1] ~= b[1] then return a[1] > b[1] end return a[2] < b[2] end)
  for i = 1, math.min(wanted, #histogram) do
    heaviest[2 * i - 1], heaviest[2 * i] = histogram[i][2], histogram[i][3]
  end
  out[u] = {
    more > 0 and redis.call('HINCRBY', state, 'lists', more) or number,
    redis.call('GET', recent) or '',
    seen,
    heaviest,
    redis.call('GET', profile) or '',
  }
end
return out
