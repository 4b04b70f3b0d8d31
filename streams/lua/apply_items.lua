-- Counts one partition's events into its item statistics; the partition's fence moves in the same call.
-- KEYS: statistics (hash), changes (zset: field by version), meta (hash), all of one partition.
-- ARGV[1], msgpack: {fence field, last offset, {half-lives in ms}, {windows in ms}, {event, ...}, {tally, ...}}
--   event: {offset, item number, ts in ms, positive 0|1, {segments}}    tally: {offset, name}
-- The arithmetic is that of models/popularity.py.

local fence_field, last_offset, half_lives, windows, events, tallies = unpack(cmsgpack.unpack(ARGV[1]))
local statistics, changes, meta = KEYS[1], KEYS[2], KEYS[3]
local fence = tonumber(redis.call('HGET', meta, fence_field) or -1)
if last_offset <= fence then return 0 end

local n_decayed = #half_lives
local width = 1 + n_decayed + 5 * #windows
local layout = '<' .. string.rep('d', width)
local touched = {}

local function load(field)
  local record = touched[field]
  if record then return record end
  local packed = redis.call('HGET', statistics, field)
  if packed then
    record = {struct.unpack(layout, packed)}
    record[width + 1] = nil -- struct.unpack hands out the next position as well
  else
    record = {}
    for i = 1, width do record[i] = 0 end
  end
  touched[field] = record
  return record
end

local function count(record, ts, positive)
  local last = record[1]
  local late = last > 0 and ts < last
  for h = 1, n_decayed do
    if late then
      record[1 + h] = record[1 + h] + positive * 2 ^ ((ts - last) / half_lives[h])
    else
      record[1 + h] = record[1 + h] * 2 ^ ((last - ts) / half_lives[h]) + positive
    end
  end
  if not late then record[1] = ts end
  for w = 1, #windows do
    local at = 1 + n_decayed + 5 * (w - 1)
    local bucket = math.floor(ts / windows[w])
    local ahead = bucket - record[at + 1]
    if ahead > 0 then
      record[at + 1] = bucket
      record[at + 3], record[at + 5] = 0, 0
      if ahead == 1 then record[at + 3], record[at + 5] = record[at + 2], record[at + 4] end
      record[at + 2], record[at + 4] = 1, positive
    elseif ahead == 0 then
      record[at + 2], record[at + 4] = record[at + 2] + 1, record[at + 4] + positive
    elseif ahead == -1 then
      record[at + 3], record[at + 5] = record[at + 3] + 1, record[at + 5] + positive
    end
  end
end

for _, event in ipairs(events) do
  local offset, item, ts, positive, segments = unpack(event)
  if offset > fence then
    count(load('\31' .. item), ts, positive)
    for _, segment in ipairs(segments) do count(load(segment .. '\31' .. item), ts, positive) end
  end
end
if next(touched) then
  local version = redis.call('HINCRBY', meta, 'version', 1)
  local records, versions = {}, {}
  local function write()
    redis.call('HSET', statistics, unpack(records))
    redis.call('ZADD', changes, unpack(versions))
    records, versions = {}, {}
  end
  for field, record in pairs(touched) do
    local n = #records
    records[n + 1], records[n + 2] = field, struct.pack(layout, unpack(record))
    versions[n + 1], versions[n + 2] = version, field
    if n > 1000 then write() end
  end
  if #records > 0 then write() end
end
local totals = {}
for _, tally in ipairs(tallies) do
  if tally[1] > fence then totals[tally[2]] = (totals[tally[2]] or 0) + 1 end
end
for name, total in pairs(totals) do redis.call('HINCRBY', meta, name, total) end
redis.call('HSET', meta, fence_field, last_offset)
return 1
