-- Applies the events of several users to their own state; each user's fence moves in the same call.
-- KEYS: per user, in this order: meta (hash), sequence, seen (strings), histogram (hash), event ids (string).
-- ARGV[1], msgpack: {fence field, first offset of the batch, {limits}, {{event, ...} per user}}
--   limits: {sequence bytes, seen bytes, event ids' bytes, histogram fields, half-life in ms}
--   event: {offset, ts in ms, 1 when it is an action of the sequence, weight, {histogram keys}}
-- ARGV[2]: per event 28 bytes: its id's digest (8), its record of the sequence (20, the item's number first).
-- Returns {verdicts, {segments per user}}: per event 'a' applied now, 'r' applied by an earlier delivery, 'd' a copy.

local fence_field, first_offset, limits, users = unpack(cmsgpack.unpack(ARGV[1]))
local sequence_max, seen_max, ids_max, histogram_max, half_life = unpack(limits)
local copies_field = fence_field .. ':copies'
local binary, at = ARGV[2], 1
local verdicts, segments = {}, {}

-- Histogram weights are kept scaled forward from a landmark, so that older ones need no rewriting. When the
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

-- `added` holds weights by name, not yet in the histogram, scaled like those that are.
local function add_to_histogram(key, added)
  local names = {}
  for name in pairs(added) do names[#names + 1] = name end
  for from = 1, #names, 1000 do
    local to = math.min(from + 999, #names)
    local old, fields = redis.call('HMGET', key, unpack(names, from, to)), {}
    for i = from, to do
      fields[#fields + 1] = names[i]
      fields[#fields + 1] = string.format('%.12g', (tonumber(old[i - from + 1]) or 0) + added[names[i]])
    end
    redis.call('HSET', key, unpack(fields))
  end
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

local function holds(ids, id)
  local found = string.find(ids, id, 1, true)
  while found and found % 8 ~= 1 do found = string.find(ids, id, found + 1, true) end
  return found
end

for u, events in ipairs(users) do
  local meta, sequence, seen, histogram, ids = unpack(KEYS, 5 * u - 4, 5 * u)
  local known = redis.call('HMGET', meta, fence_field, 'landmark', 'segments', 'erased', copies_field)
  local fence, landmark = tonumber(known[1] or -1), tonumber(known[2])
  if not known[1] then redis.call('DEL', ids) end -- a log new to this user: a copy would have to be in it
  local old_ids = redis.call('GETRANGE', ids, -ids_max, -1)
  local copies, new_copies = {}, false -- offsets found to be copies that a redelivery may bring again
  for offset in string.gmatch(known[5] or '', '%d+') do copies[tonumber(offset)] = true end
  local new_ids, is_new, records, consumed, added = {}, {}, {}, {}, {}
  local last = fence
  for _, event in ipairs(events) do
    local offset, ts, is_action, weight, names = unpack(event)
    local id = string.sub(binary, at, at + 7)
    if offset <= fence then
      verdicts[#verdicts + 1] = copies[offset] and 'd' or 'r'
    elseif is_new[id] or holds(old_ids, id) then
      verdicts[#verdicts + 1] = 'd'
      last, copies[offset], new_copies = offset, true, true
    else
      verdicts[#verdicts + 1] = 'a'
      last, is_new[id], new_ids[#new_ids + 1] = offset, true, id
      if is_action == 1 then
        records[#records + 1] = string.sub(binary, at + 8, at + 27)
        consumed[#consumed + 1] = string.sub(binary, at + 8, at + 11)
      end
      if weight > 0 and #names > 0 then
        if not landmark then
          landmark = ts
          redis.call('HSET', meta, 'landmark', ts)
        elseif (ts - landmark) / half_life > 32 then
          add_to_histogram(histogram, added)
          added = {}
          move_landmark(histogram, meta, landmark, ts)
          landmark = ts
        end
        local doublings = (ts - landmark) / half_life
        if doublings > -40 then
          local scaled = weight * 2 ^ doublings
          for _, name in ipairs(names) do added[name] = (added[name] or 0) + scaled end
        end
      end
    end
    at = at + 28
  end
  append_bounded(sequence, records, sequence_max)
  append_bounded(seen, consumed, seen_max)
  append_bounded(ids, new_ids, ids_max)
  if next(added) then
    add_to_histogram(histogram, added)
    if redis.call('HLEN', histogram) > histogram_max * 1.25 then keep_heaviest(histogram) end
  end
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
  end
  segments[u] = known[3] or ''
end
return {table.concat(verdicts), segments}
