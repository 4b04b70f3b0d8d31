-- Counts one partition's events into its item statistics; the partition's fence moves in the same call.
-- KEYS: statistics (hash), changes (list: per version the fields it changed, msgpack), meta (hash), likes (list), of one
--   partition.
-- ARGV: fence field, last offset of the batch, the offset that it follows, half-lives and windows in ms (msgpack),
--   fields to count into (msgpack), per field the record of what to add, packed; likes, packed, and how many bytes of
--   them are kept; then names of totals with their counts
-- Returns the fence where it lies within the batch or after it, so that nothing was done.
-- The arithmetic is that of models/data/popularity.py; a record counted apart is added like the events in it.

local statistics, changes, meta = KEYS[1], KEYS[2], KEYS[3]
local fence = tonumber(redis.call('HGET', meta, ARGV[1]) or -1)
if fence > tonumber(ARGV[3]) then return fence end

local versions_kept = 64
local half_lives, windows = unpack(cmsgpack.unpack(ARGV[4]))
local fields, added = cmsgpack.unpack(ARGV[5]), ARGV[6]
local n_decayed = #half_lives
local width = 1 + n_decayed + 5 * #windows
local size = 8 * width
local layout = '<' .. string.rep('d', width)

local function sum(a, b)
  local older, newer = a, b
  if a[1] > b[1] then older, newer = b, a end
  local age = older[1] - newer[1]
  for h = 1, n_decayed do a[h + 1] = older[h + 1] * 2 ^ (age / half_lives[h]) + newer[h + 1] end
  a[1] = newer[1]
  for at = 2 + n_decayed, width, 5 do
    local ahead = b[at] - a[at]
    if ahead == 0 then
      for i = at + 1, at + 4 do a[i] = a[i] + b[i] end
    elseif ahead == 1 then
      a[at], a[at + 1], a[at + 2] = b[at], b[at + 1], b[at + 2] + a[at + 1]
      a[at + 3], a[at + 4] = b[at + 3], b[at + 4] + a[at + 3]
    elseif ahead > 1 then
      for i = at, at + 4 do a[i] = b[i] end
    elseif ahead == -1 then
      a[at + 2], a[at + 4] = a[at + 2] + b[at + 1], a[at + 4] + b[at + 3]
    end
  end
  return a
end

for from = 1, #fields, 1000 do -- as many as the Lua stack holds
  local to = math.min(from + 999, #fields)
  local old, writes = redis.call('HMGET', statistics, unpack(fields, from, to)), {}
  for i = from, to do
    local at, record = (i - 1) * size + 1, old[i - from + 1]
    if record then
      local kept, more = {struct.unpack(layout, record)}, {struct.unpack(layout, added, at)}
      record = struct.pack(layout, unpack(sum(kept, more), 1, width)) -- struct.unpack adds the next position
    else
      record = string.sub(added, at, at + size - 1)
    end
    writes[#writes + 1] = fields[i]
    writes[#writes + 1] = record
  end
  redis.call('HSET', statistics, unpack(writes))
end
if #fields > 0 then
  redis.call('HINCRBY', meta, 'version', 1)
  redis.call('RPUSH', changes, ARGV[5])
  redis.call('LTRIM', changes, -versions_kept, -1)
end
local likes = ARGV[7]
if #likes > 0 then
  redis.call('RPUSH', KEYS[4], likes)
  redis.call('HINCRBY', meta, 'likes', 1)
  local bytes = redis.call('HINCRBY', meta, 'likes_bytes', #likes)
  while bytes > tonumber(ARGV[8]) do bytes = redis.call('HINCRBY', meta, 'likes_bytes', -#redis.call('LPOP', KEYS[4])) end
end
for i = 9, #ARGV, 2 do redis.call('HINCRBY', meta, ARGV[i], ARGV[i + 1]) end
redis.call('HSET', meta, ARGV[1], ARGV[2])
return false
