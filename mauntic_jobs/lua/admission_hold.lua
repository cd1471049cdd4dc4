-- Let a lane wait for a place of its organization, or end that; admission.lua stands before it.
--
-- KEYS[1]  the hash `lanes` of admission.lua
-- ARGV[1]  the name of the lane; for the end of the wait, of any lane of the organization
-- ARGV[2]  for how many microseconds it waits at most, 0 for the end
-- ARGV[3]  the queue's prefix and name, and a colon
--
-- Returns 1 if the lane waits now, else 0.

local name, microseconds, base = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local blocker = '~' .. string.sub(name, 3, 38)
if microseconds == 0 then
    judge_anew(base, blocker)
    return 0
end
local lane = redis.call('HGET', KEYS[1], name)
if not lane or redis.call('HEXISTS', base .. 'adm:where', lane) == 1 then
    return 0
end
local at = redis.call('ZSCORE', base .. 'adm:ready' .. class_of(tonumber(lane)), lane)
    or redis.call('HGET', base .. 'adm:v', lane) or 0
-- Lanes are woken before the time of their turn; here there is nothing to be prepared.
let_sleep(base, lane, tonumber(at), blocker, time_now() + LOOKAHEAD + microseconds)
return 1
