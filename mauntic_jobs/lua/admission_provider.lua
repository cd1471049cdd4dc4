-- Note that a provider fails and is left alone, or that it works again; admission.lua stands before it.
--
-- KEYS[1]  the hash `limit:ID` of admission.lua
-- ARGV[1]  the provider
-- ARGV[2]  for how many microseconds it is left alone, 0 if it works
-- ARGV[3]  how many microseconds ago it first failed; 0 if it works
-- ARGV[4]  the organization, empty if it works
-- ARGV[5]  its providers and their limits as admission.lua has them
-- ARGV[6]  the queue's prefix and name, and a colon
--
-- A provider that has taken a message of another process since it first failed works: the host that asks cannot reach
-- it. Returns 1 if the provider is left alone now, else 0.

local provider, alone, since = ARGV[1], tonumber(ARGV[2]), time_now() - tonumber(ARGV[3])
local organization, limits, base = ARGV[4], ARGV[5], ARGV[6]
local now = time_now()
local known = redis.call('HMGET', KEYS[1], 'b', 'w')
local until_time, worked = tonumber(known[1]) or 0, tonumber(known[2]) or 0
if alone > 0 then
    if worked >= since then
        return 0
    end
    redis.call('HSET', KEYS[1], 'b', whole(math.max(until_time, now + alone)))
    redis.call('HSET', base .. 'adm:limits', organization, limits)
else
    redis.call('HSET', KEYS[1], 'w', whole(now))
    if until_time > now then
        -- What waits goes out slowly at first, from now on.
        redis.call('HSET', KEYS[1], 'b', whole(now))
    end
    judge_anew(base, provider)
end
redis.call('EXPIRE', KEYS[1], KEPT_SECONDS)
return alone > 0 and 1 or 0
