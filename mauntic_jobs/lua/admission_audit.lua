-- Find parked jobs that no lane would bring back, because keys of admission were lost; admission.lua stands before it.
--
-- KEYS[1]  the set `prioritized` of the queue
-- ARGV[1]  the lane to go on with, 0 at first
-- ARGV[2]  how many lanes to look at
-- ARGV[3]  the queue's prefix and name, and a colon
--
-- Returns the lane to go on with, 0 at the end.

local lane, base = tonumber(ARGV[1]), ARGV[3]
for _ = 1, tonumber(ARGV[2]) do
    local found = redis.call('ZRANGEBYSCORE', KEYS[1], whole(first_score(lane)), '(0', 'WITHSCORES', 'LIMIT', 0, 1)
    if not found[1] then
        return 0
    end
    lane = math.floor((tonumber(found[2]) - LOWEST_SCORE) / LANE_SPAN)
    local number = whole(lane)
    -- So that new jobs of its owner get no second lane.
    redis.call('HSETNX', base .. 'adm:lanes', name_of(base, number, found[1]), number)
    make_ready(base, number)
    lane = lane + 1
    redis.call('ZADD', base .. 'marker', 0, '0')
end
return lane
