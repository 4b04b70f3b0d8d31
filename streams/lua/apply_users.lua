-- Applies the events of several users to their own state; each user's fence moves in the same call.
-- KEYS: per user, in this order: meta (hash), sequence (string), seen (string), histogram (hash), event ids (zset).
-- ARGV[1], msgpack: {fence field, first offset of the batch, {limits}, {{event, ...} per user}}
--   limits: {sequence bytes, seen bytes, event ids, histogram fields, half-life in ms}
--   event: {offset, ts in ms, 1 when it is an action of the sequence, weight, {histogram keys}}
-- ARGV[2]: per event 28 bytes: its id's digest (8), its record of the sequence (20, the item's number first).
-- Returns {verdicts, {segments per user}}: per event 'a' applied now, 'r' applied by an earlier delivery, 'd' a copy.

local fence_field, first_offset, limits, users = unpack(cmsgpack.unpack(ARGV[1]))
local sequence_max, seen_max, ids_max, histogram_max, half_life = unpack(limits)
local binary, at = ARGV[2], 1
local copies_field = fence_field .. ':copies'
local verdicts, segments = {}, {}

-- Histogram weights are kept scaled forward from a landmark, so that adding to one needs no reading. When the
-- scale has grown by 2^32 the landmark moves up and what has become negligible is dropped.
local function move_landmark(key, meta, landmark, ts)
  local scale = 2 ^ ((landmark - ts) / half_life)
  local entries = redis.call('HGETALL', key)
  for i = 1, #entries, 2 do
    local weight = tonumber(entries[i + 1]) * scale
    if weight > 1e-6 then
      redis.call('HSET', key, entries[i], string.format('%.12g', weight))
    else
      redis.call('HDEL', key, entries[i])
    end
  end
  redis.call('HSET', meta, 'landmark', ts)
end

local function add_to_histogram(key, meta, landmark, ts, weight, names)
  local doublings = (ts - landmark) / half_life
  if doublings > 32 then
    move_landmark(key, meta, landmark, ts)
    landmark, doublings = ts, 0
  end
  if doublings > -40 then
    local scaled = string.format('%.12g', weight * 2 ^ doublings)
    for _, name in ipairs(names) do redis.call('HINCRBYFLOAT', key, name, scaled) end
  end
  return landmark
end

local function keep_heaviest(key)
  local entries, weights = redis.call('HGETALL', key), {}
  for i = 1, #entries, 2 do weights[#weights + 1] = {tonumber(entries[i + 1]), entries[i]} end
  table.sort(weights, function(a, b) if a[1] ~= b[1] then return a[1] > b[1] end return a[2] < b[2] end)
  for i = histogram_max + 1, #weights do redis.call('HDEL', key, weights[i][2]) end
end

local function append_bounded(key, parts, max)
  if #parts == 0 then return end
  if redis.call('APPEND', key, table.concat(parts)) > 2 * max then
    redis.call('SET', key, redis.call('GETRANGE', key, -max, -1))
  end
end

for u, events in ipairs(users) do
  local meta, sequence, seen, histogram, ids = unpack(KEYS, 5 * u - 4, 5 * u)
  local known = redis.call('HMGET', meta, fence_field, 'landmark', 'segments', 'erased', copies_field)
  local fence, landmark = tonumber(known[1] or -1), tonumber(known[2])
  if not known[1] then redis.call('DEL', ids) end -- a log new to this user: its offsets do not compare with the old ones
  local copies, new_copies = {}, false -- offsets found to be copies that a redelivery may bring again
  for offset in string.gmatch(known[5] or '', '%d+') do copies[tonumber(offset)] = true end
  local records, consumed = {}, {}
  local last = fence
  for _, event in ipairs(events) do
    local offset, ts, is_action, weight, names = unpack(event)
    local id = string.sub(binary, at, at + 7)
    if offset <= fence then
      verdicts[#verdicts + 1] = copies[offset] and 'd' or 'r'
    elseif redis.call('ZADD', ids, 'NX', offset, id) == 0 then
      verdicts[#verdicts + 1] = 'd'
      last, copies[offset], new_copies = offset, true, true
    else
      verdicts[#verdicts + 1] = 'a'
      last = offset
      if is_action == 1 then
        records[#records + 1] = string.sub(binary, at + 8, at + 27)
        consumed[#consumed + 1] = string.sub(binary, at + 8, at + 11)
      end
      if weight > 0 and #names > 0 then
        if not landmark then
          landmark = ts
          redis.call('HSET', meta, 'landmark', ts)
        end
        landmark = add_to_histogram(histogram, meta, landmark, ts, weight, names)
      end
    end
    at = at + 28
  end
  append_bounded(sequence, records, sequence_max)
  append_bounded(seen, consumed, seen_max)
  if last > fence then
    redis.call('HSET', meta, fence_field, last)
    if new_copies then
      local unsettled = {}
      for offset in pairs(copies) do
        if offset >= first_offset then unsettled[#unsettled + 1] = string.format('%.0f', offset) end
      end
      redis.call('HSET', meta, copies_field, table.concat(unsettled, ' '))
    end
    if known[4] then -- the user is back after an erasure, whose fences would have expired
      redis.call('HDEL', meta, 'erased')
      redis.call('PERSIST', meta)
    end
    redis.call('ZREMRANGEBYRANK', ids, 0, -ids_max - 1)
    if redis.call('HLEN', histogram) > histogram_max * 1.25 then keep_heaviest(histogram) end
  end
  segments[u] = known[3] or ''
end
return {table.concat(verdicts), segments}
