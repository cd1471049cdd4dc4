-- Note what limits the messages of an organization; admission.lua stands before it.
--
-- KEYS[1]  the hash `limits` of admission.lua, which fixes the slot in a cluster
-- ARGV[1]  the organization
-- ARGV[2]  its providers and their limits as admission.lua has them
-- ARGV[3]  the queue's prefix and name, and a colon
--
-- Lanes of the organization that wait for a provider are judged anew. Returns 1.

local organization, limits, base = ARGV[1], ARGV[2], ARGV[3]
redis.call('HSET', KEYS[1], organization, limits)
for class = 0, 1 do
    local lane = redis.call('HGET', base .. 'adm:lanes', class .. ' ' .. organization)
    if lane and head_of(base, tonumber(lane)) then
        redis.call('HDEL', base .. 'adm:where', lane)
        make_ready(base, lane)
    end
end
redis.call('ZADD', base .. 'marker', 0, '0')
return 1
