-- Count messages of a sending domain, in its counter and in its account of days, as one step.
--
-- KEYS[1]  the counter, a string: what the platform compares with the day's limit
-- KEYS[2]  the account, a hash: a date (YYYY-MM-DD, UTC) -> the messages counted for it, and
--          `reset` -> the last date for which the counter was reset; expires 3 days after it was last written
-- ARGV[1]  the date of the messages, YYYY-MM-DD, UTC
-- ARGV[2]  the date after that
-- ARGV[3]  how many messages; negative to take some back
-- ARGV[4]  the most that may be counted for the date, or nothing for no limit
--
-- Returns the counter afterwards, or -1 where that would be over the limit, and then nothing is counted. Messages of
-- the day that a reset has ended are no longer in the counter: they are entered in the account only, and what it says
-- of their day is returned.

local TTL_SECONDS = 259200
-- So that the account of a domain that is never reset does not grow: four dates and `reset`.
local MOST_FIELDS = 5

local reset = redis.call('HGET', KEYS[2], 'reset')
local late = reset == ARGV[2]

if ARGV[4] then
    local used = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
    -- Until the date has been started, the counter still holds what was sent before it.
    if not reset or reset == ARGV[1] then
        used = math.max(used, tonumber(redis.call('GET', KEYS[1]) or 0))
    end
    if used + ARGV[3] > tonumber(ARGV[4]) then
        return -1
    end
end

-- First, so that a counter that is no integer fails the script before it has written anything.
local counter = not late and redis.call('INCRBY', KEYS[1], ARGV[3])
local of_date = redis.call('HINCRBY', KEYS[2], ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], TTL_SECONDS)

if redis.call('HLEN', KEYS[2]) > MOST_FIELDS then
    local fields = redis.call('HKEYS', KEYS[2])
    table.sort(fields)
    redis.call('HDEL', KEYS[2], fields[1])
end

return counter or of_date
