-- Find the job of a BullMQ queue that has waited longest; oldest_waiting.lua stands before it.
--
-- KEYS[1]  the queue's waiting jobs, a list of ids, the next one last
-- KEYS[2]  its prioritized jobs, a sorted set of ids
-- ARGV[1]  what the keys of its jobs begin with, the last colon included
--
-- Returns 1 if all that wait do so for the rate limit of a provider, else 0, and the id, false if none waits.

return { are_all_limited(ARGV[1]) and 1 or 0, oldest_waiting(KEYS[1], KEYS[2]) }
