-- Note what a provider's account may send, as the provider says; admission.lua stands before it.
--
-- KEYS[1]  the hash `limit:ID` of admission.lua
-- ARGV[1]  the provider
-- ARGV[2]  the least interval between two messages in microseconds, 0 for none
-- ARGV[3]  how many messages within 24 hours, -1 for no limit
-- ARGV[4]  how many messages the account has sent within 24 hours, by whichever program
-- ARGV[5]  the organization
-- ARGV[6]  its providers and their limits as admission.lua has them
-- ARGV[7]  the queue's prefix and name, and a colon
--
-- Messages in hand are counted here and not yet by the provider, so turns of ours that it does not know of count all the
-- same. Only where there was no turn for ten minutes, and so nothing is in hand, does the provider know better: turns of
-- processes that died.
--
-- What was learned of the rate stays, unless it was just being learned from nothing, or the account's rate has changed.
-- Returns 1 if the quota of the day is used up, 2 if it was not known before, so that messages which are in hand may count
-- here and there not, else 0.

local provider, interval, most, sent = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local organization, limits, base = ARGV[5], ARGV[6], ARGV[7]
local key, now = KEYS[1], time_now()
local known = redis.call('HMGET', key, 'a', 'o', 'phase', 'm')
if interval > 0 then
    if (known[1] and tonumber(known[1]) ~= interval) or known[3] == 'start' or known[3] == 'measure' then
        redis.call('HDEL', key, 'i', 'phase')
    end
    redis.call('HSET', key, 'a', whole(interval))
else
    redis.call('HDEL', key, 'a')
end
local is_full = false
if most >= 0 then
    local total = day_count(base, provider, now)
    local part, latest = math.floor(now / DAY_PART), 0
    for _, count in ipairs(redis.call('HMGET', base .. 'adm:day:' .. provider, whole(part), whole(part - 1))) do
        latest = latest + (tonumber(count) or 0)
    end
    local others = sent - total
    if latest > 0 then
        others = math.max(others, math.min(tonumber(known[2]) or 0, 0))
    end
    redis.call('HSET', key, 'm', whole(most), 'o', whole(others))
    is_full = total + others >= most
else
    redis.call('HDEL', key, 'm', 'o')
end
if not is_full then
    redis.call('ZREM', base .. 'adm:full', organization .. ' ' .. provider)
end
redis.call('HDEL', key, 'f')
redis.call('EXPIRE', key, KEPT_SECONDS)
redis.call('HSET', base .. 'adm:limits', organization, limits)
judge_anew(base, provider)
return is_full and 1 or (most >= 0 and not known[4]) and 2 or 0
