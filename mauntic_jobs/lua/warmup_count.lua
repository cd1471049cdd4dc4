-- Count messages of a sending domain, in its counter and in its account of days, as one step.
--
-- KEYS[1]  the counter, a string: the messages sent today; expires 3 days after it was last written
-- KEYS[2]  the account, a hash: a date (YYYY-MM-DD, UTC) -> the messages counted for it, and
--          `reset` -> the last date for which the counter was reset; expires 3 days after it was last written
-- ARGV[1]  the date of the messages, YYYY-MM-DD, UTC
-- ARGV[2]  the date after that
-- ARGV[3]  how many messages; negative to take some back
--
-- Returns the counter afterwards. Messages of the day that a reset has ended are no longer in the counter: they are
-- entered in the account only, and what it says about their day is returned.

local TTL_SECONDS = 259200
-- So that the account of a domain that is never reset does not grow: four dates and `reset`.
local MOST_FIELDS = 5

local reset = redis.call('HGET', KEYS[2], 'reset')
local late = reset == ARGV[2]

-- First, so that a counter that is no integer fails the script before it has written anything.
local counter = not late and redis.call('INCRBY', KEYS[1], ARGV[3])
local of_date = redis.call('HINCRBY', KEYS[2], ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], TTL_SECONDS)
if counter then
    redis.call('EXPIRE', KEYS[1], TTL_SECONDS)
end

if redis.call('HLEN', KEYS[2]) > MOST_FIELDS then
    local fields = redis.call('HKEYS', KEYS[2])
    table.sort(fields)
    redis.call('HDEL', KEYS[2], fields[1])
end

return counter or of_date
