-- Keeps the words that one user searched for, the newest; what is delivered again changes nothing.
-- KEYS: state (hash), searched (sorted set, by the time of the last search for the word).
-- ARGV: the most kept, then time in ms and word by turns.

if redis.call('HEXISTS', KEYS[1], 'erased') == 1 then return 0 end
for i = 2, #ARGV, 2 do redis.call('ZADD', KEYS[2], 'GT', ARGV[i], ARGV[i + 1]) end
return redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[1]) - 1)
