-- Let go of a BullMQ job that was removed from its queue while it was worked on: BullMQ's own scripts leave its id among
-- the active ones, from where it would be taken again as a job without data.
--
-- KEYS[1]  the job, a hash
-- KEYS[2]  the queue's active jobs, a list of ids
-- KEYS[3]  the active jobs that may be stalled, a set of ids
-- KEYS[4]  the job's lock, a string
-- ARGV[1]  the job's id
--
-- Returns 1 if it was let go, 0 if there is such a job again.

if redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
end
redis.call('LREM', KEYS[2], 0, ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[4])
return 1
