-- What changed in one partition's item statistics after a version.
-- KEYS: statistics (hash), changes (zset), meta (hash).   ARGV: version known, most fields in one answer
-- Returns {version read up to, more to come 0|1, {field, record, field, record, ...}}

local known, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local newest = tonumber(redis.call('HGET', KEYS[3], 'version') or 0)
if newest <= known then return {known, 0, {}} end
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. known, newest, 'WITHSCORES', 'LIMIT', 0, most)
local upto, more = newest, 0
local n = #rows / 2
if n == most then
  -- a version's fields may straddle the cut: end before the last version seen, unless it is the only one
  upto, more = tonumber(rows[2 * n]), 1
  if tonumber(rows[2]) < upto then
    while tonumber(rows[2 * n]) == upto do n = n - 1 end
    upto = tonumber(rows[2 * n])
  else
    rows = redis.call('ZRANGEBYSCORE', KEYS[2], upto, upto, 'WITHSCORES')
    n = #rows / 2
  end
end
local out = {}
for i = 1, n do
  out[2 * i - 1] = rows[2 * i - 1]
  out[2 * i] = redis.call('HGET', KEYS[1], rows[2 * i - 1])
end
return {upto, more, out}
