-- Applies the events of several users to their own state; each user's fence moves in the same call.
-- KEYS: per user: state (hash), recent (string); their layout is told in docs/architecture.md.
-- ARGV[1], msgpack: {fence field, first offset of the batch, {limits}, {name, ...}, {number, ...}}
--   limits: {actions, items seen, event ids, histogram entries, half-life in ms}
--   names: the histogram fields that the call needs, each once
--   numbers, per user: its newest ts in ms, its names' count and places among all names, its events' count; then
--   per event: offset, weight as of the newest ts, its names' count and places among the user's names
-- ARGV[2]: per event what `recent` keeps of it.
-- Returns {verdicts, {segments per user}}: per event 'a' applied now, 'r' applied by an earlier delivery, 'd' a copy.
-- What costs here is the count of calls and of Lua objects, hence the flat numbers and the few commands for a user.

local fence_field, first_offset, limits, names, numbers = unpack(cmsgpack.unpack(ARGV[1]))
local sequence_max, seen_max, ids_max, histogram_max, half_life = unpack(limits)
local copies_field = fence_field .. ':copies'
local binary, size = ARGV[2], 28
local at, byte = 1, 1
local verdicts, segments = {}, {}

-- As many fields in one command as the Lua stack holds.
local function get(key, fields)
  local values = redis.call('HMGET', key, unpack(fields, 1, math.min(#fields, 1000)))
  for from = 1001, #fields, 1000 do
    local more = redis.call('HMGET', key, unpack(fields, from, math.min(from + 999, #fields)))
    for i = 1, #more do values[from - 1 + i] = more[i] end
  end
  return values
end

local function set(key, pairs)
  local created = 0
  for from = 1, #pairs, 1000 do
    created = created + redis.call('HSET', key, unpack(pairs, from, math.min(from + 999, #pairs)))
  end
  return created
end

local function histogram_of(state)
  local entries, found = redis.call('HGETALL', state), {}
  for i = 1, #entries, 2 do
    if string.byte(entries[i]) == 58 then found[#found + 1] = {struct.unpack('<d', entries[i + 1]), entries[i]} end
  end
  return found
end

-- Histogram weights are kept scaled forward from a landmark, so that older ones need no rewriting. When the
-- scale has grown by 2^32 the landmark moves up and what has become negligible is dropped.
local function move_landmark(state, landmark, ts)
  local scale = 2 ^ ((landmark - ts) / half_life)
  for _, entry in ipairs(histogram_of(state)) do
    local weight = entry[1] * scale
    if weight > 1e-6 then
      redis.call('HSET', state, entry[2], struct.pack('<d', weight))
    else
      redis.call('HDEL', state, entry[2])
    end
  end
end

local function keep_heaviest(state)
  local entries = histogram_of(state)
  table.sort(entries, function(a, b) if a[1] ~= b[1] then return a[1] > b[1] end return a[2] < b[2] end)
  for i = histogram_max + 1, #entries do redis.call('HDEL', state, entries[i][2]) end
end

-- Keeps the newest events for their ids and the newest actions for the sequence; of older actions the item as seen.
local function compact(state, recent)
  local all, actions = redis.call('GET', recent), 0
  local last = #all - size + 1
  for from = 1, last, size do actions = actions + string.byte(all, from + 14) end
  local kept, gone = {}, {}
  for from = 1, last, size do
    local is_action = string.byte(all, from + 14) == 1
    if last - from < ids_max * size or is_action and actions <= sequence_max then
      kept[#kept + 1] = string.sub(all, from, from + size - 1)
    elseif is_action then
      gone[#gone + 1] = string.sub(all, from + 8, from + 11)
    end
    if is_action then actions = actions - 1 end
  end
  redis.call('SET', recent, table.concat(kept))
  local seen = (redis.call('HGET', state, 'seen') or '') .. table.concat(gone)
  redis.call('HSET', state, 'seen', string.sub(seen, -4 * seen_max))
end

local function holds(ids, id)
  local found = string.find(ids, id, 1, true)
  while found and found % size ~= 1 do found = string.find(ids, id, found + 1, true) end
  return found
end

for u = 1, #KEYS / 2 do
  local state, recent = KEYS[2 * u - 1], KEYS[2 * u]
  local newest, n_names = numbers[at], numbers[at + 1]
  local fields = {fence_field, 'landmark', 'segments', 'erased', copies_field}
  for i = 1, n_names do fields[5 + i] = names[numbers[at + 1 + i]] end
  at = at + 2 + n_names
  local known = get(state, fields)
  local fence, landmark = tonumber(known[1] or -1), tonumber(known[2])
  -- in a log new to this user a copy's original would have to be in it
  local old = known[1] and redis.call('GETRANGE', recent, -size * ids_max, -1) or ''
  if not known[1] then
    local all = redis.call('GET', recent)
    if all then redis.call('SET', recent, (string.gsub(all, '........(....................)', '\0\0\0\0\0\0\0\0%1'))) end
  end
  local copies, new_copies = {}, false -- offsets found to be copies that a redelivery may bring again
  if known[5] then
    for offset in string.gmatch(known[5], '%d+') do copies[tonumber(offset)] = true end
  end
  local is_new, kept, added, last = {}, {}, {}, fence
  local n_events = numbers[at]
  at = at + 1
  for _ = 1, n_events do
    local offset, weight, n = numbers[at], numbers[at + 1], numbers[at + 2]
    local id = string.sub(binary, byte, byte + 7)
    if offset <= fence then
      verdicts[#verdicts + 1] = copies[offset] and 'd' or 'r'
    elseif is_new[id] or holds(old, id) then
      verdicts[#verdicts + 1] = 'd'
      last, copies[offset], new_copies = offset, true, true
    else
      verdicts[#verdicts + 1] = 'a'
      last, is_new[id], kept[#kept + 1] = offset, true, string.sub(binary, byte, byte + size - 1)
      for i = at + 3, at + 2 + n do
        local name = numbers[i]
        added[name] = (added[name] or 0) + weight
      end
    end
    at, byte = at + 3 + n, byte + size
  end
  if last > fence then
    local writes = {fence_field, last}
    if next(added) then
      if not landmark or (newest - landmark) / half_life > 32 then
        if landmark then
          move_landmark(state, landmark, newest)
          known = get(state, fields)
        end
        landmark, writes[3], writes[4] = newest, 'landmark', newest
      end
      local scale = 2 ^ ((newest - landmark) / half_life)
      if scale > 2 ^ -40 then
        for name, weight in pairs(added) do
          local so_far = known[5 + name]
          writes[#writes + 1] = fields[5 + name]
          writes[#writes + 1] = struct.pack('<d', weight * scale + (so_far and struct.unpack('<d', so_far) or 0))
        end
      end
    end
    if new_copies then
      local unsettled = {}
      for offset in pairs(copies) do
        if offset >= first_offset then unsettled[#unsettled + 1] = string.format('%.0f', offset) end
      end
      writes[#writes + 1], writes[#writes + 2] = copies_field, table.concat(unsettled, ' ')
    end
    if set(state, writes) > 0 and redis.call('HLEN', state) > histogram_max * 1.25 then keep_heaviest(state) end
    if #kept > 0 and redis.call('APPEND', recent, table.concat(kept)) > size * (sequence_max + 2 * ids_max) then
      compact(state, recent)
    end
    if known[4] then -- the user is back after an erasure, whose fences would have expired
      redis.call('HDEL', state, 'erased')
      redis.call('PERSIST', state)
    end
  end
  segments[u] = known[3] or ''
end
return {table.concat(verdicts), segments}
