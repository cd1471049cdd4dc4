-- Note that a provider fails and is left alone, or that it works again; admission.lua stands before it.
--
-- KEYS[1]  the hash `limit:ID` of admission.lua
-- ARGV[1]  the provider
-- ARGV[2]  for how many microseconds it is left alone, 0 if it works
-- ARGV[3]  the organization, empty if it works
-- ARGV[4]  its providers and their limits as admission.lua has them
-- ARGV[5]  the queue's prefix and name, and a colon
--
-- Returns 1 if that is news, else 0.

local provider, alone, organization, limits, base = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local now = time_now()
local known = tonumber(redis.call('HGET', KEYS[1], 'b')) or 0
if alone == 0 and known <= now then
    return 0
end
-- What waits goes out slowly at first, from now on.
local until_time = alone == 0 and now or math.max(known, now + alone)
redis.call('HSET', KEYS[1], 'b', whole(until_time))
redis.call('EXPIRE', KEYS[1], KEPT_SECONDS)
if alone > 0 then
    redis.call('HSET', base .. 'adm:limits', organization, limits)
else
    judge_anew(base, provider)
end
return 1
