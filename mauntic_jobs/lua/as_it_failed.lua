-- The beginning of a script whose end is one of BullMQ's own: it goes on only if the job is failed, and not for another
-- time than was looked at. What the script after it needs comes first in KEYS and ARGV.
--
-- KEYS[#KEYS]      the queue's failed jobs, a sorted set of ids by the time of failure in milliseconds since 1970
-- KEYS[1]          the job, a hash
-- ARGV[1]          the job's id
-- ARGV[#ARGV - 1]  the time of failure that was looked at, or an empty string for any
-- ARGV[#ARGV]      the time to note as `retriedOn`, in milliseconds since 1970, or an empty string for none
--
-- Returns -3 if the job is not failed, or has failed again; else what the script after it returns.

do
    local failed = redis.call('ZSCORE', KEYS[#KEYS], ARGV[1])
    local seen = ARGV[#ARGV - 1]
    if not failed or (seen ~= '' and tonumber(failed) ~= tonumber(seen)) then
        return -3
    end
    if ARGV[#ARGV] ~= '' and redis.call('EXISTS', KEYS[1]) == 1 then
        redis.call('HSET', KEYS[1], 'retriedOn', ARGV[#ARGV])
    end
end
