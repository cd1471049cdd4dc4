-- Look whether a BullMQ job is still to be worked on: it exists, and has neither completed nor failed.
--
-- KEYS[1]  the job, a hash
-- KEYS[2]  the queue's completed jobs, a sorted set of ids
-- KEYS[3]  the queue's failed jobs, a sorted set of ids
-- ARGV[1]  the job's id
--
-- Returns 1 if it is, 0 if there is no such job, -1 if it has ended: BullMQ adds no other job of its id.

if redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
if redis.call('ZSCORE', KEYS[2], ARGV[1]) or redis.call('ZSCORE', KEYS[3], ARGV[1]) then
    return -1
end
return 1
