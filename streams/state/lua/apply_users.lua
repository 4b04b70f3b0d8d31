-- Applies the events of several users to their own state; each user's fence moves in the same call.
-- KEYS: per user: state (hash), recent (string); their layout is told in docs/architecture.md.
-- ARGV[1], msgpack: {fence field, first offset not settled, {limits}, {name, ...}, {number, ...}}
--   limits: {actions, items seen, event ids, histogram entries, half-life in ms, likes}
--   names: the histogram fields that the call needs, each once
--   numbers, per user: newest ts in ms, how many names and events it has, its names' places among all; per event:
--   offset, weight as of the newest ts, its names' count and places among the user's names
-- ARGV[2]: per event what `recent` keeps of it.
-- Returns {verdicts, {segments per user}, {event, likes before, ...}}: per event 'a' applied now, 'r' applied by an
--   earlier delivery, 'd' a copy; of each that is the user's like of an item the place among all events, and the likes
--   before it: per like the item and the first half of the event's id, by which a redelivery finds it again.
-- What costs here is the count of calls and of Lua objects, hence the flat numbers and the few commands for a user.

local fence_field, unsettled, limits, names, numbers = unpack(cmsgpack.unpack(ARGV[1]))
local sequence_max, seen_max, ids_max, histogram_max, half_life, likes_max = unpack(limits)
local binary, size, like_size = ARGV[2], 28, 8
local at, byte = 1, 1
local verdicts, segments, told = {}, {}, {}
-- filled anew for each user
local fields, writes, added = {fence_field, 'landmark', 'segments', 'likes'}, {fence_field}, {}
local given = #fields

-- As many fields in one command as the Lua stack holds.
local function get(key, n)
  local values = redis.call('HMGET', key, unpack(fields, 1, math.min(n, 1000)))
  for from = 1001, n, 1000 do
    local more = redis.call('HMGET', key, unpack(fields, from, math.min(from + 999, n)))
    for i = 1, #more do values[from - 1 + i] = more[i] end
  end
  return values
end

local function set(key, n)
  local created = 0
  for from = 1, n, 1000 do
    created = created + redis.call('HSET', key, unpack(writes, from, math.min(from + 999, n)))
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

-- Where a record begins with these bytes.
local function find(records, bytes, width)
  local found = string.find(records, bytes, 1, true)
  while found and found % width ~= 1 do found = string.find(records, bytes, found + 1, true) end
  return found
end

-- A fence's value is its offset, and after it those found to be copies that a redelivery may bring again.
local function parse_fence(value)
  local fence, copies
  for offset in string.gmatch(value, '%d+') do
    if fence then copies[tonumber(offset)] = true else fence, copies = tonumber(offset), {} end
  end
  return fence, copies
end

local function format_fence(fence, copies)
  local value = {string.format('%.0f', fence)}
  for offset in pairs(copies) do
    if offset >= unsettled then value[#value + 1] = string.format('%.0f', offset) end
  end
  return table.concat(value, ' ')
end

for u = 1, #KEYS / 2 do
  local state, recent = KEYS[2 * u - 1], KEYS[2 * u]
  local newest, n_names, n_events = numbers[at], numbers[at + 1], numbers[at + 2]
  for i = 1, n_names do fields[given + i], added[i] = names[numbers[at + 2 + i]], 0 end
  at = at + 3 + n_names
  local known = get(state, given + n_names)
  local fence, landmark, copies, old = tonumber(known[1] or -1), tonumber(known[2]), nil, ''
  if known[1] then
    if not fence then fence, copies = parse_fence(known[1]) end
    old = redis.call('GETRANGE', recent, -size * ids_max, -1)
  else -- a log new to this user: a copy's original would have to be in it
    local all = redis.call('GET', recent)
    if all then redis.call('SET', recent, (string.gsub(all, '........(....................)', '\0\0\0\0\0\0\0\0%1'))) end
  end
  local kept, is_new, last, weighty = {}, n_events > 1 and {} or nil, fence, false
  local likes, liked = known[4] or '', false
  for _ = 1, n_events do
    local offset, weight, n = numbers[at], numbers[at + 1], numbers[at + 2]
    local id = string.sub(binary, byte, byte + 7)
    local like = string.byte(binary, byte + 13) == 1 and string.sub(binary, byte + 8, byte + 11) .. string.sub(id, 1, 4)
    if offset <= fence then
      local copy = copies and copies[offset]
      verdicts[#verdicts + 1] = copy and 'd' or 'r'
      local found = like and not copy and find(likes, like, like_size)
      if found then told[#told + 1], told[#told + 2] = #verdicts - 1, string.sub(likes, 1, found - 1) end
    elseif is_new and is_new[id] or find(old, id, size) then
      verdicts[#verdicts + 1] = 'd'
      last, copies = offset, copies or {}
      copies[offset] = true
    else
      verdicts[#verdicts + 1] = 'a'
      last, kept[#kept + 1] = offset, string.sub(binary, byte, byte + size - 1)
      if is_new then is_new[id] = true end
      for i = at + 3, at + 2 + n do added[numbers[i]] = added[numbers[i]] + weight end
      weighty = weighty or n > 0
      if like and not find(likes, string.sub(like, 1, 4), like_size) then
        told[#told + 1], told[#told + 2] = #verdicts - 1, likes
        likes, liked = string.sub(likes .. like, -like_size * likes_max), true
      end
    end
    at, byte = at + 3 + n, byte + size
  end
  if last > fence then
    local n = 2
    writes[2] = copies and format_fence(last, copies) or last
    if not landmark and redis.call('HDEL', state, 'erased') == 1 then
      redis.call('PERSIST', state) -- the user is back after an erasure, whose fences would have expired
    end
    if weighty then
      if not landmark or (newest - landmark) / half_life > 32 then
        if landmark then
          move_landmark(state, landmark, newest)
          known = get(state, given + n_names)
        end
        landmark, writes[3], writes[4], n = newest, 'landmark', newest, 4
      end
      local scale = 2 ^ ((newest - landmark) / half_life)
      for i = 1, scale > 2 ^ -40 and n_names or 0 do
        if added[i] > 0 then
          local so_far = known[given + i]
          writes[n + 1] = fields[given + i]
          writes[n + 2] = struct.pack('<d', added[i] * scale + (so_far and struct.unpack('<d', so_far) or 0))
          n = n + 2
        end
      end
    end
    if liked then
      writes[n + 1], writes[n + 2], n = 'likes', likes, n + 2
    end
    if set(state, n) > 0 and redis.call('HLEN', state) > histogram_max * 1.25 then keep_heaviest(state) end
    if #kept > 0 and redis.call('APPEND', recent, table.concat(kept)) > size * (sequence_max + 2 * ids_max) then
      compact(state, recent)
    end
  end
  segments[u] = known[3] or ''
end
return {table.concat(verdicts), segments, told}
