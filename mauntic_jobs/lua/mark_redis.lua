-- Raise the marker by which a loss of this server's data is noticed.
--
-- KEYS[1]  the marker, a hash: `number` -> how often it was raised, `at` -> when it was last, ISO 8601
-- ARGV[1]  the number that Postgres has, which the new one is above
-- ARGV[2]  now, ISO 8601
--
-- Returns the new number.

local number = math.max(tonumber(redis.call('HGET', KEYS[1], 'number') or 0), tonumber(ARGV[1])) + 1
redis.call('HSET', KEYS[1], 'number', string.format('%d', number), 'at', ARGV[2])
return number
