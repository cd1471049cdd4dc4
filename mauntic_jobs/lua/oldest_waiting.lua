-- Functions about the jobs that wait on a BullMQ queue, with which other scripts begin; admission.lua says how jobs are
-- parked.

local LANE_SPAN, LOWEST_SCORE = 2 ^ 35, -2 ^ 53
local MAX_LANES_READ = 1000

-- Return the id of the job that has waited longest, false for none: of those that are parked, by the heads of up to
-- MAX_LANES_READ lanes. `wait` holds the next one last.
local function oldest_waiting(wait, prioritized)
    local oldest, earliest
    local from = LOWEST_SCORE
    for _ = 1, MAX_LANES_READ do
        local head = redis.call('ZRANGEBYSCORE', prioritized, string.format('%.0f', from), '(0', 'WITHSCORES', 'LIMIT', 0, 1)
        if not head[1] then
            break
        end
        local lane = math.floor((tonumber(head[2]) - LOWEST_SCORE) / LANE_SPAN)
        from = LOWEST_SCORE + (lane + 1) * LANE_SPAN
        local place = tonumber(head[2]) - from + LANE_SPAN
        -- Those with a priority stand last in their lane, in units of 10 s instead of 20 ms.
        local age = place < 2 ^ 34 and place or (place % 2 ^ 24) * 500
        if not earliest or age < earliest then
            oldest, earliest = head[1], age
        end
    end
    return redis.call('LINDEX', wait, -1) or oldest or redis.call('ZRANGE', prioritized, 0, 0)[1] or false
end

-- Return whether all jobs that wait are parked, for organizations whose providers are limited until later than now.
local function are_all_limited(base)
    if redis.call('LLEN', base .. 'wait') > 0 or redis.call('ZCOUNT', base .. 'prioritized', 0, '+inf') > 0
        or redis.call('EXISTS', base .. 'adm:ready0', base .. 'adm:ready1') > 0 then
        return false
    end
    local first = redis.call('ZRANGE', base .. 'adm:wake', 0, 0, 'WITHSCORES')[2]
    local time = redis.call('TIME')
    return first and tonumber(first) > time[1] * 1000000 + time[2]
end
