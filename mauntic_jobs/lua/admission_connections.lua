-- Learn how many connections at once a provider takes from each process; admission.lua stands before it.
--
-- KEYS[1]  the hash `limit:ID` of admission.lua
-- ARGV[1]  how many connections to the provider the process has, which was refused one more
-- ARGV[2]  how many it was to have at most, -1 if it knew of no limit
-- ARGV[3]  the organization
-- ARGV[4]  its providers and their limits as admission.lua has them
-- ARGV[5]  the queue's prefix and name, and a colon
--
-- As many as one process has are what all may have, each. A process that is refused although it has fewer lowers that by
-- one, down to 0: a connection for each message, closed after it. admission_report.lua raises it.
--
-- Fields: `k` the connections of each process, `kt` when they were changed, `kw` the seconds before one more is tried.
--
-- Returns how many a process may have now; -1 if fewer are not possible.

local SETTLING, FIRST_WAIT, MAX_WAIT = SECOND, 15, 600
local open, known, organization, limits, base = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local now = time_now()
local state = redis.call('HMGET', KEYS[1], 'k', 'kt', 'kw')
local most, changed, wait = tonumber(state[1]), tonumber(state[2]) or 0, tonumber(state[3]) or FIRST_WAIT
if not most then
    most = math.max(open, 1)
elseif now - changed < SETTLING then
    -- The others are being told. What one has, another may have.
    if open <= most then
        return most
    end
    most, now = open, changed
elseif known ~= most then
    return most
elseif most == 0 then
    return -1
else
    most, wait = most - 1, math.min(wait * 2, MAX_WAIT)
end
redis.call('HSET', KEYS[1], 'k', most, 'kt', whole(now), 'kw', wait)
redis.call('EXPIRE', KEYS[1], KEPT_SECONDS)
-- Turns name the provider from now on, so that its answers are reported.
redis.call('HSET', base .. 'adm:limits', organization, limits)
return most
