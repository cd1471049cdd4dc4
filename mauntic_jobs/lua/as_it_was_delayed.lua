-- The beginning of a script whose end is BullMQ's own `promote`: it goes on only if the job is delayed, and until the
-- same time as was noted. What the script after it needs comes first in KEYS and ARGV.
--
-- KEYS[1]      the queue's delayed jobs, a sorted set of ids by when they are due: milliseconds since 1970 times 4096
-- ARGV[2]      the job's id
-- ARGV[#ARGV]  the time that was noted, in milliseconds since 1970
--
-- Returns -3 if the job is not delayed, or until another time; else what the script after it returns.

do
    local due = redis.call('ZSCORE', KEYS[1], ARGV[2])
    if not due or math.floor(tonumber(due) / 0x1000) ~= tonumber(ARGV[#ARGV]) then
        return -3
    end
end
