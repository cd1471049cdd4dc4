-- Say whether jobs wait on a BullMQ queue, and when something was last done there; oldest_waiting.lua stands before it.
--
-- KEYS[1]  the queue's waiting jobs, a list of ids, the next one last
-- KEYS[2]  its prioritized jobs, a sorted set of ids
-- KEYS[3]  its active jobs, a list of ids, the latest first
-- KEYS[4]  its completed jobs, a sorted set of ids by when they ended, in milliseconds since 1970
-- KEYS[5]  its failed jobs, likewise
-- ARGV[1]  what the keys of its jobs begin with, the last colon included
--
-- Returns how many jobs wait, how many are active, when the oldest one was added and when a job last began or ended, both
-- in milliseconds since 1970, or 0 where that is not known. Jobs that wait for the rate limit of a provider do not count
-- as long as all do.

local function time(id, field)
    return tonumber(id and redis.call('HGET', ARGV[1] .. id, field) or 0) or 0
end

local function latest(key)
    return tonumber(redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2] or 0)
end

local waiting = redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
local active = redis.call('LLEN', KEYS[3])
if waiting == 0 or are_all_limited(ARGV[1]) then
    return {0, active, 0, 0}
end
local next_id = oldest_waiting(KEYS[1], KEYS[2])
local began = time(redis.call('LINDEX', KEYS[3], 0), 'processedOn')
return {waiting, active, time(next_id, 'timestamp'), math.max(began, latest(KEYS[4]), latest(KEYS[5]))}
