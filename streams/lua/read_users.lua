-- What a list is made of, for several users; each gets the next sequence number of its lists, or keeps the last.
-- KEYS: per user: meta (hash), sequence (string), seen (string), histogram (hash), profile (string).
-- ARGV: sequence bytes wanted, histogram fields wanted, what the number grows by
-- Returns per user {list number, sequence, seen, {key, weight, ...} heaviest first, profile or ''}

local sequence_bytes, fields, more = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local out = {}
for u = 1, #KEYS / 5 do
  local meta, sequence, seen, histogram, profile = unpack(KEYS, 5 * u - 4, 5 * u)
  local entries, heaviest = redis.call('HGETALL', histogram), {}
  local order = {}
  for i = 1, #entries, 2 do order[#order + 1] = {tonumber(entries[i + 1]), entries[i], entries[i + 1]} end
  table.sort(order, function(a, b) if a[1] ~= b[1] then return a[1] > b[1] end return a[2] < b[2] end)
  for i = 1, math.min(fields, #order) do
    heaviest[2 * i - 1], heaviest[2 * i] = order[i][2], order[i][3]
  end
  out[u] = {
    more > 0 and redis.call('HINCRBY', meta, 'lists', more) or tonumber(redis.call('HGET', meta, 'lists') or 0),
    redis.call('GETRANGE', sequence, -sequence_bytes, -1),
    redis.call('GET', seen) or '',
    heaviest,
    redis.call('GET', profile) or '',
  }
end
return out
