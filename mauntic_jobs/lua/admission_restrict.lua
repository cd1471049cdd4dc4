-- Note what is restricted on a queue; admission.lua stands before it.
--
-- KEYS[1]  the hash `restrictions` of admission.lua, which fixes the slot in a cluster
-- ARGV     the queue's prefix and name, and a colon; then names and values as admission.lua has them, each pair of them
--
-- If anything has changed, all lanes that wait are judged anew. Returns 1 if it has, else 0.

local base, before, after, is_changed = ARGV[1], {}, {}, false
local flat = redis.call('HGETALL', KEYS[1])
for place = 1, #flat, 2 do
    before[flat[place]] = flat[place + 1]
end
for place = 2, #ARGV, 2 do
    after[ARGV[place]] = ARGV[place + 1]
    if before[ARGV[place]] ~= ARGV[place + 1] then
        redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
        is_changed = true
    end
end
for name, value in pairs(before) do
    if not after[name] then
        redis.call('HDEL', KEYS[1], name)
    end
    if after[name] ~= value then
        is_changed = true
    end
end
if next(after) then
    redis.call('HSET', base .. 'adm:meta', 'restricted', 1)
else
    redis.call('HDEL', base .. 'adm:meta', 'restricted')
end
if is_changed then
    for _, blocker in ipairs(redis.call('ZRANGE', base .. 'adm:wake', 0, -1)) do
        redis.call('ZADD', base .. 'adm:wake', 0, blocker)
    end
    redis.call('ZADD', base .. 'marker', 0, '0')
end
return is_changed and 1 or 0
