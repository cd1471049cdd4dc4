-- Note the weights of organizations in their turns; admission.lua stands before it.
--
-- KEYS[1]  the hash `weights` of admission.lua, which fixes the slot in a cluster
-- ARGV     the queue's prefix and name, and a colon; then organizations and their weights, each pair of them
--
-- A lane that has had its turn keeps its place: a weight holds from its next turn on. Returns 1.

local base = ARGV[1]
redis.call('DEL', KEYS[1])
for place = 2, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
end
if #ARGV > 1 then
    redis.call('HSET', base .. 'adm:meta', 'weighted', 1)
else
    redis.call('HDEL', base .. 'adm:meta', 'weighted')
end
return 1
