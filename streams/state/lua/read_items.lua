-- What changed in one partition's item statistics after a version, and what was liked after a number of batches.
-- KEYS: statistics (hash), changes (list), meta (hash), likes (list).
-- ARGV: version known, about how many fields in one answer, batches of likes known
-- Returns {version read up to, newest version, batches of likes, {likes, ...}, {field, record, field, record, ...}};
-- without the last where the changes since the version known are no longer told apart.

local known, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local newest = tonumber(redis.call('HGET', KEYS[3], 'version') or 0)
local behind = newest - known
if behind <= 0 then return {known, known, tonumber(ARGV[3]), {}, {}} end
local batches = tonumber(redis.call('HGET', KEYS[3], 'likes') or 0)
local likes = batches > tonumber(ARGV[3]) and redis.call('LRANGE', KEYS[4], tonumber(ARGV[3]) - batches, -1) or {}
if behind > redis.call('LLEN', KEYS[2]) then return {known, newest, batches, likes} end
local fields, is_in = {}, {}
for i = -behind, -1 do
  for _, field in ipairs(cmsgpack.unpack(redis.call('LINDEX', KEYS[2], i))) do
    if not is_in[field] then
      is_in[field], fields[#fields + 1] = true, field
    end
  end
  known = known + 1
  if #fields >= most then break end
end
local out = {}
for from = 1, #fields, 1000 do -- as many as the Lua stack holds
  local records = redis.call('HMGET', KEYS[1], unpack(fields, from, math.min(from + 999, #fields)))
  for i = 1, #records do
    out[#out + 1] = fields[from + i - 1]
    out[#out + 1] = records[i]
  end
end
return {known, newest, batches, likes, out}
