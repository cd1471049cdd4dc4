-- Admission: which job of a BullMQ queue may be taken now. The functions that the other `admission_` scripts begin with.
--
-- Jobs are parked in BullMQ's own set `prioritized`, at scores below 0 that name their lane: one for each organization
-- and class, and one for each campaign that was paused. BullMQ's scores there are 2^32 and more. Any BullMQ worker can take a parked job, lane by lane.
--
--     score = -2^53 + lane * 2^35 + place
--     lanes 1 to 131,071 are transactional, 131,073 to 262,143 are bulk
--     place = the job's `timestamp` since 2026 in units of 20 ms; behind all of these, jobs with a priority:
--             2^34 + priority * 2^24 + `timestamp` since 2026 in units of 10 s
--
-- Keys, all of them begin with the queue's prefix and name and `:adm:`
--   lanes, names   hashes: `CLASS ORGANIZATION` -> the lane's number, and back
--   meta           hash: `lane0`, `lane1` the number given last, `v0`, `v1` the virtual time, `turn` the count of turns,
--                  `restricted` if there are restrictions
--   ready0, ready1 sorted sets: lanes of a class that may be served, by their virtual time
--   v              hash: the virtual time of lanes that are empty
--   limits         hash: organization -> its providers, first choice first, as `ID` or `ID@INTERVAL:BURST` in
--                  microseconds where the configuration has a limit
--   limit:ID       hash: what is known of a provider: `t` the theoretical arrival time of the next message (GCRA),
--                  `i` the learned interval, `p` until when it is paused; the other fields belong to admission_report.lua
--   restrictions   hash: `*` for all, an organization, `ORGANIZATION CAMPAIGN` or a provider -> `END INTERVAL`: until when
--                  it is paused, with an interval of 0, or gets a message each so many microseconds
--   asleep:ID      sorted set: lanes that wait for a provider, or for a restriction as `!` and its name, by their virtual
--                  time
--   wake           sorted set: what lanes wait for, by the time of its next turn
--   where          hash: a lane that waits -> what it waits for
--
-- Times are microseconds since 1970 by the clock of the server.

local LANE_SPAN, LOWEST_SCORE, FIRST_PRIORITY = 2 ^ 35, -2 ^ 53, 2 ^ 32
local BULK_OFFSET, MAX_LANES = 131072, 131071
local EPOCH_MILLISECONDS, MAX_PRIORITY = 1767225600000, 1023
-- Start times are given out this far ahead, so that none is lost between two calls.
local LOOKAHEAD = 250000
-- A second provider is used only while the first is refused for longer than this.
local SHORT_WAIT = 10000000
local MAX_SORTED, MAX_STEPS = 200, 32
-- Each so many turns bulk comes first.
local BULK_TURN = 5
-- After a pause so many messages a second go out at first, and each second twice as many, for so many seconds.
local RESUMED_RATE, RESUMED_SECONDS, SECOND = 20, 7, 1000000
local KEPT_SECONDS = 604800

local function time_now()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

local function whole(number)
    return string.format('%.0f', number)
end

local function precise(number)
    return string.format('%.17g', number)
end

local function class_of(lane)
    return lane > BULK_OFFSET and 1 or 0
end

local function first_score(lane)
    return LOWEST_SCORE + lane * LANE_SPAN
end

local function head_of(base, lane)
    local first = first_score(lane)
    return redis.call('ZRANGEBYSCORE', base .. 'prioritized', whole(first), '(' .. whole(first + LANE_SPAN), 'LIMIT', 0, 1)[1]
end

-- Return what decides about a job: the name of its lane, which is its class and its organization, `-` where the data
-- names none; its priority; and its timestamp.
local function read_job(base, id)
    local job = redis.call('HMGET', base .. id, 'data', 'priority', 'timestamp', 'mauntic-jobs:lane')
    local data, priority = job[1] or '', tonumber(job[2]) or 0
    if job[4] then
        return job[4], priority, job[3]
    end
    local _, stop = string.find(data, '"organizationId":"', 1, true)
    local organization = stop and string.sub(data, stop + 1, stop + 36)
        or string.match(data, '"organizationId"%s*:%s*"([%x-]+)"')
    if not organization or #organization ~= 36 or string.find(organization, '[^%x-]') then
        organization = '-'
    end
    local urgent = priority > 0 or string.find(data, '"transactional":true', 1, true)
        or string.find(data, '"transactional": true', 1, true) or string.find(data, '"journeyExecutionId":"', 1, true)
    return (urgent and '0 ' or '1 ') .. string.lower(organization), priority, job[3]
end

-- Return the number of a new lane: the next one without jobs, whose former owner gives it up.
local function new_lane(base, name)
    local class = string.sub(name, 1, 1)
    local offset = class == '1' and BULK_OFFSET or 0
    local last = tonumber(redis.call('HGET', base .. 'adm:meta', 'lane' .. class)) or 0
    local number, lane
    for _ = 1, 1000 do
        last = last % MAX_LANES + 1
        lane = last + offset
        if not head_of(base, lane) then
            break
        end
    end
    number = whole(lane)
    local former = redis.call('HGET', base .. 'adm:names', number)
    if former then
        redis.call('HDEL', base .. 'adm:lanes', former)
    end
    redis.call('HSET', base .. 'adm:meta', 'lane' .. class, last)
    redis.call('HSET', base .. 'adm:lanes', name, number)
    redis.call('HSET', base .. 'adm:names', number, name)
    return number
end

-- Return the name of a lane with a job; one that was lost is that of the job.
local function name_of(base, lane, id)
    local name = redis.call('HGET', base .. 'adm:names', lane)
    if not name then
        name = read_job(base, id)
        redis.call('HSET', base .. 'adm:names', lane, name)
    end
    return name
end

-- Let a lane with jobs take part, unless it waits for a provider. It saves up no turns while it has no jobs.
local function make_ready(base, lane)
    if redis.call('HEXISTS', base .. 'adm:where', lane) == 1 then
        return
    end
    local ready = base .. 'adm:ready' .. class_of(tonumber(lane))
    if redis.call('ZSCORE', ready, lane) then
        return
    end
    local own = tonumber(redis.call('HGET', base .. 'adm:v', lane)) or 0
    local served = tonumber(redis.call('HGET', base .. 'adm:meta', 'v' .. class_of(tonumber(lane)))) or 0
    redis.call('ZADD', ready, precise(math.max(own, served)), lane)
    redis.call('HDEL', base .. 'adm:v', lane)
end

-- Return the place of a job in its lane: BullMQ takes those without a priority first, and the others by it.
local function place_of(priority, timestamp)
    local age = math.max(0, (tonumber(timestamp) or 0) - EPOCH_MILLISECONDS)
    if priority <= 0 then
        return math.min(math.floor(age / 20), 2 ^ 34 - 1)
    end
    return 2 ^ 34 + math.min(math.floor(priority), MAX_PRIORITY) * 2 ^ 24 + math.min(math.floor(age / 10000), 2 ^ 24 - 1)
end

-- Park jobs in their lanes.
local function park(base, ids)
    local scores, touched = {}, {}
    for _, id in ipairs(ids) do
        local name, priority, timestamp = read_job(base, id)
        local lane = touched[name]
        if not lane then
            lane = redis.call('HGET', base .. 'adm:lanes', name) or new_lane(base, name)
            touched[name] = lane
        end
        scores[#scores + 1] = whole(first_score(tonumber(lane)) + place_of(priority, timestamp))
        scores[#scores + 1] = id
    end
    redis.call('ZADD', base .. 'prioritized', unpack(scores))
    for _, lane in pairs(touched) do
        make_ready(base, lane)
    end
end

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

-- Return the provider over which an organization may send, from when on, and when that would be at an even pace; or nil,
-- when a provider is free at the earliest, and which. The intervals of the provider go into `paces`.
local function provider_of(base, limits, now, is_restricted, paces)
    local soonest, blocker
    for entry in string.gmatch(limits, '%S+') do
        local provider, interval, burst = string.match(entry, '^(.-)@(%d+):(%d+)$')
        provider, interval, burst = provider or entry, tonumber(interval), tonumber(burst) or 0
        local known = redis.call('HMGET', base .. 'adm:limit:' .. provider, 't', 'i', 'p')
        local learned = tonumber(known[2])
        if learned and (not interval or learned > interval) then
            interval, burst = learned, 0
        end
        local from, expected = tonumber(known[3]) or 0, tonumber(known[1]) or 0
        if interval then
            from = math.max(from, expected - burst)
        end
        local restriction = is_restricted and redis.call('HGET', base .. 'adm:restrictions', provider)
        local pace
        if restriction then
            local restricted
            restricted, pace = restricted_until(base, provider, restriction, now)
            from = math.max(from, restricted)
        end
        if from <= now + LOOKAHEAD then
            paces[provider], paces['!' .. provider] = interval, pace
            return provider, math.max(from, now), expected
        end
        if not soonest or from < soonest then
            soonest, blocker = from, provider
        end
        if from <= now + SHORT_WAIT then
            break
        end
    end
    return nil, soonest, blocker
end

-- Let a lane wait until a time, for a provider or a restriction.
local function let_sleep(base, lane, at, blocker, until_time)
    redis.call('ZREM', base .. 'adm:ready' .. class_of(tonumber(lane)), lane)
    redis.call('ZADD', base .. 'adm:asleep:' .. blocker, precise(at), lane)
    redis.call('HSET', base .. 'adm:where', lane, blocker)
    redis.call('ZADD', base .. 'adm:wake', 'LT', whole(until_time), blocker)
end

-- Return the provider of a lane's next message, empty where nothing limits its organization, and from when on it may
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
        local free, third
        provider, free, third = provider_of(base, limits, now, is_restricted, paces)
        if not provider then
            return nil, free, third
        end
        from, expected = math.max(from, free), third
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
    local meta = redis.call('HMGET', base .. 'adm:meta', 'turn', 'restricted')
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
                    redis.call('ZADD', ready, precise(at + 1), lane)
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
