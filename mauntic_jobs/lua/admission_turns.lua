-- Turns: which of the parked jobs goes next, over which provider and when; admission.lua stands before it, and
-- admission_take.lua uses it.

-- A second provider is used only while the first is refused for longer than this.
local SHORT_WAIT = 10000000
local MAX_SORTED, MAX_STEPS = 200, 32
-- BullMQ's own scores begin here.
local FIRST_PRIORITY = 2 ^ 32
-- Each so many turns bulk comes first.
local BULK_TURN = 5
-- After a pause so many messages a second go out at first, and each second twice as many, for so many seconds.
local RESUMED_RATE, RESUMED_SECONDS = 20, 7

-- Take up to MAX_SORTED jobs from where BullMQ puts them, from both ends of its list: what has come behind a long
-- campaign is found at once.
local function sort(base, now)
    local prioritized, delayed, wait = base .. 'prioritized', base .. 'delayed', base .. 'wait'
    local ids = redis.call('ZRANGEBYSCORE', delayed, 0, whole((now / 1000 + 1) * 0x1000 - 1), 'LIMIT', 0, MAX_SORTED)
    for _, id in ipairs(ids) do
        redis.call('XADD', base .. 'events', '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
        redis.call('HSET', base .. id, 'delay', 0)
    end
    if #ids > 0 then
        park(base, ids)
        redis.call('ZREM', delayed, unpack(ids))
    end
    local last = redis.call('ZREVRANGE', prioritized, 0, 0, 'WITHSCORES')
    if last[2] and tonumber(last[2]) >= FIRST_PRIORITY then
        -- Parking them again is what takes them from their place.
        park(base, redis.call('ZRANGEBYSCORE', prioritized, FIRST_PRIORITY, '+inf', 'LIMIT', 0, MAX_SORTED))
    end
    local length = redis.call('LLEN', wait)
    if length == 0 then
        return
    end
    local oldest = redis.call('LRANGE', wait, -MAX_SORTED / 2, -1)
    local newest = length > #oldest and redis.call('LRANGE', wait, 0, math.min(MAX_SORTED / 2, length - #oldest) - 1) or {}
    local waiting = {}
    for _, ends in ipairs({ oldest, newest }) do
        for _, id in ipairs(ends) do
            -- Markers of BullMQ before version 5.
            if string.sub(id, 1, 2) ~= '0:' then
                waiting[#waiting + 1] = id
            end
        end
    end
    if #waiting > 0 then
        park(base, waiting)
    end
    redis.call('LTRIM', wait, #newest, -1 - #oldest)
end

-- Let lanes take part again whose provider has its turn soon.
local function wake(base, until_time)
    local due = redis.call('ZRANGEBYSCORE', base .. 'adm:wake', '-inf', whole(until_time), 'LIMIT', 0, 100)
    for _, each in ipairs(due) do
        local asleep = base .. 'adm:asleep:' .. each
        local lanes = redis.call('ZRANGE', asleep, 0, -1, 'WITHSCORES')
        for place = 1, #lanes, 2 do
            local class = class_of(tonumber(lanes[place]))
            local served = tonumber(redis.call('HGET', base .. 'adm:meta', 'v' .. class)) or 0
            local at = precise(math.max(tonumber(lanes[place + 1]), served))
            redis.call('ZADD', base .. 'adm:ready' .. class, 'GT', at, lanes[place])
            redis.call('HDEL', base .. 'adm:where', lanes[place])
        end
        redis.call('DEL', asleep)
        redis.call('ZREM', base .. 'adm:wake', each)
    end
end

-- Return from when on a restriction lets the next message go, and the time between two messages, nil where it sets none
-- any more.
local function restricted_until(base, name, value, now)
    local finish, interval = string.match(value, '^(%d+) (%d+)$')
    finish, interval = tonumber(finish), tonumber(interval)
    if interval == 0 and finish > now + LOOKAHEAD then
        return finish
    end
    local from = math.max(now, tonumber(redis.call('HGET', base .. 'adm:limit:!' .. name, 't')) or 0)
    if interval == 0 then
        from = math.max(from, finish)
        local seconds = math.floor((from - finish) / SECOND)
        if seconds >= RESUMED_SECONDS then
            return now
        end
        interval = SECOND / (RESUMED_RATE * 2 ^ seconds)
    elseif finish <= now then
        return now
    end
    return from, interval
end

-- Return from when on the restrictions of a lane let its next message go, and which of them is the last to do so. The
-- intervals that they set go into `paces`.
local function lane_restricted_until(base, lane_name, now, paces)
    local names = { '*', string.sub(lane_name, 3, 38), #lane_name > 38 and string.sub(lane_name, 3) or nil }
    local values = redis.call('HMGET', base .. 'adm:restrictions', unpack(names))
    local latest, blocker = now, nil
    for place, name in ipairs(names) do
        if values[place] then
            local from, interval = restricted_until(base, name, values[place], now)
            if from > latest then
                latest, blocker = from, '!' .. name
            end
            paces['!' .. name] = interval
        end
    end
    return latest, blocker
end

-- Return from when on a provider may be used by its failures and by a restriction, and the time between two messages, nil
-- where they set none. One that failed is used slowly at first, as after a pause.
local function provider_bound(base, provider, failing_until, now, is_restricted)
    local values = {
        failing_until and failing_until .. ' 0',
        is_restricted and redis.call('HGET', base .. 'adm:restrictions', provider),
    }
    local from, interval = now, 0
    for place = 1, 2 do
        if values[place] then
            local bound, pace = restricted_until(base, provider, values[place], now)
            from, interval = math.max(from, bound), math.max(interval, pace or 0)
        end
    end
    return from, interval > 0 and interval or nil
end

-- Return from when on a provider has room within its limits of a day, 0 for now, and whether it has one that counts turns.
-- `known` are the fields `f`, `m` and `o` of the provider.
local function day_bound(base, organization, provider, now, configured, known)
    local most, room = day_limit(configured, tonumber(known[2])), tonumber(known[1]) or 0
    if most then
        room = math.max(room, day_room(base, provider, now, most, tonumber(known[3]) or 0))
    end
    if room > now + LOOKAHEAD then
        redis.call('ZREMRANGEBYSCORE', base .. 'adm:full', '-inf', whole(now))
        redis.call('ZADD', base .. 'adm:full', whole(room), organization .. ' ' .. provider)
    end
    return room, most ~= nil
end

-- Return the provider over which an organization may send, empty where it is the first one and nothing limits it, from
-- when on, when that would be at an even pace, and whether its turns of a day are counted; or nil, when a provider is free
-- at the earliest, and which. The intervals of the provider go into `paces`.
local function provider_of(base, organization, limits, now, is_restricted, paces)
    local soonest, blocker
    for entry in string.gmatch(limits, '%S+') do
        local provider, interval, burst, day = read_entry(entry)
        local known = redis.call('HMGET', base .. 'adm:limit:' .. provider, 't', 'i', 'p', 'b', 'a', 'f', 'm', 'o', 'k')
        local learned = tonumber(known[2])
        interval = interval or tonumber(known[5])
        if learned and (not interval or learned > interval) then
            interval, burst = learned, 0
        end
        local from, expected = tonumber(known[3]) or 0, tonumber(known[1]) or 0
        if interval then
            from = math.max(from, expected - burst)
        end
        local bound, pace = provider_bound(base, provider, known[4], now, is_restricted)
        local room, is_counted = day_bound(base, organization, provider, now, day, { known[6], known[7], known[8] })
        from = math.max(from, bound, room)
        if from <= now + LOOKAHEAD then
            paces[provider], paces['!' .. provider] = interval, pace
            local is_unlimited = not (interval or pace or soonest or is_counted or known[9])
            return is_unlimited and '' or provider, math.max(from, now), expected, is_counted
        end
        if not soonest or from < soonest then
            soonest, blocker = from, provider
        end
        -- One that fails is not waited for.
        if from <= now + SHORT_WAIT and (tonumber(known[4]) or 0) <= now then
            break
        end
    end
    return nil, soonest, blocker
end

-- Return the provider of a lane's next message, empty where nothing limits it, and from when on it may
-- go; or nil, until when nothing may, and what that is for. Where it may go, the time of the message after it is noted.
local function turn_of(base, lane_name, limits, now, is_restricted)
    local paces, from = {}, now
    if is_restricted then
        local blocker
        from, blocker = lane_restricted_until(base, lane_name, now, paces)
        if from > now + LOOKAHEAD then
            return nil, from, blocker
        end
    end
    local provider, expected = '', 0
    if limits and limits ~= '' then
        local free, third, is_counted
        local organization = string.sub(lane_name, 3, 38)
        provider, free, third, is_counted = provider_of(base, organization, limits, now, is_restricted, paces)
        if not provider then
            return nil, free, third
        end
        from, expected = math.max(from, free), third
        if is_counted then
            count_day(base, provider, from, 1)
        end
    end
    for name, interval in pairs(paces) do
        -- A provider's burst lets a message go before its even pace would.
        local at = name == provider and math.max(expected, from) or from
        redis.call('HSET', base .. 'adm:limit:' .. name, 't', whole(at + interval))
        redis.call('EXPIRE', base .. 'adm:limit:' .. name, KEPT_SECONDS)
    end
    return provider, from
end

-- Move the next job to the end of `wait` where BullMQ takes it. Return its lane, its provider, how long it waits for its
-- turn, and what its organization is limited by; or nil and when to ask again, in microseconds since 1970, 0 for never.
local function pick(base, now)
    local meta = redis.call('HMGET', base .. 'adm:meta', 'turn', 'restricted', 'weighted')
    local turn = (tonumber(meta[1]) or 0) + 1
    local classes = turn % BULK_TURN == 0 and { 1, 0 } or { 0, 1 }
    local steps = 0
    for _, class in ipairs(classes) do
        local ready = base .. 'adm:ready' .. class
        while steps < MAX_STEPS do
            steps = steps + 1
            local next_lane = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
            local lane, at = next_lane[1], tonumber(next_lane[2])
            if not lane then
                break
            end
            local id = head_of(base, tonumber(lane))
            if not id then
                redis.call('ZREM', ready, lane)
                redis.call('HSET', base .. 'adm:v', lane, precise(at))
            else
                local name = name_of(base, lane, id)
                local limits = redis.call('HGET', base .. 'adm:limits', string.sub(name, 3, 38))
                local provider, from, blocker = turn_of(base, name, limits, now, meta[2])
                if provider then
                    redis.call('ZREM', base .. 'prioritized', id)
                    redis.call('RPUSH', base .. 'wait', id)
                    local weight = meta[3] and redis.call('HGET', base .. 'adm:weights', string.sub(name, 3, 38))
                    redis.call('ZADD', ready, precise(at + 1 / (tonumber(weight) or 1)), lane)
                    redis.call('HSET', base .. 'adm:meta', 'turn', turn, 'v' .. class, precise(at))
                    return name, provider, from - now, limits or ''
                end
                let_sleep(base, lane, at, blocker, from)
            end
        end
    end
    if steps >= MAX_STEPS then
        return nil, now
    end
    local first = redis.call('ZRANGE', base .. 'adm:wake', 0, 0, 'WITHSCORES')[2]
    return nil, first and tonumber(first) - LOOKAHEAD or 0
end
