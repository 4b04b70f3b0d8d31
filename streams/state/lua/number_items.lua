-- Gives each item id its number, the next free one at first sight. The map only grows.
-- KEYS: numbers (hash: id -> number), ids (list: number -> id).   ARGV: ids.   Returns the numbers.

local numbers = {}
for i, id in ipairs(ARGV) do
  local number = redis.call('HGET', KEYS[1], id)
  if not number then
    number = redis.call('RPUSH', KEYS[2], id) - 1
    redis.call('HSET', KEYS[1], id, number)
  end
  numbers[i] = tonumber(number)
end
return numbers
