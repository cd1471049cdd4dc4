-- Admission: which job of a BullMQ queue may be taken now. The functions about lanes, which the other `admission_`
-- scripts begin with. Scripts of admission alone have a second key, `none`, which never exists: while a cluster moves the
-- keys of the slot one by one, it refuses them as a whole.
--
-- Jobs are parked in BullMQ's own set `prioritized`, at scores below 0 that name their lane: one for each organization
-- and class, and one for each campaign that was paused. BullMQ's scores there are 2^32 and more. Any BullMQ worker can
-- take a parked job, lane by lane.
--
--     score = -2^53 + lane * 2^35 + place
--     lanes 1 to 131,071 are transactional, 131,073 to 262,143 are bulk
--     place = the job's `timestamp` since 2026 in units of 20 ms; behind all of these, jobs with a priority:
--             2^34 + priority * 2^24 + `timestamp` since 2026 in units of 10 s
--
-- Keys, all of them begin with the queue's prefix and name and `:adm:`
--   lanes, names   hashes: `CLASS ORGANIZATION` or `CLASS ORGANIZATION CAMPAIGN` -> the lane's number, and back
--   meta           hash: `lane0`, `lane1` the number given last, `v0`, `v1` the virtual time, `turn` the count of turns,
--                  `restricted` if there are restrictions, `weighted` if there are weights
--   ready0, ready1 sorted sets: lanes of a class that may be served, by their virtual time
--   v              hash: the virtual time of lanes that are empty
--   limits         hash: organization -> its providers, first choice first, as `ID`, or where the configuration has
--                  limits `ID@INTERVAL:BURST`, `ID@INTERVAL:BURST:DAY` or `ID@::DAY`: the first two in microseconds, DAY
--                  in messages within 24 hours
--   limit:ID       hash: what is known of a provider: `t` the theoretical arrival time of the next message (GCRA),
--                  `i` the learned interval, `p` until when it asks to be left alone, `b` until when it is not tried
--                  because it fails, `w` when it was last known to work, `f` until when its quota of a day is used up
--                  by its own answer; `a` the interval and `m` the messages within 24 hours that its account may send,
--                  `o` how many of these others sent; `k` the connections that each process may have; the other
--                  fields belong to admission_learning.lua and admission_connections.lua
--   day:ID         hash: turns over a provider that has a limit of a day, by parts of ten minutes since 1970; `total` their
--                  sum, `first` the oldest part
--   full           sorted set: `ORGANIZATION PROVIDER` whose limit of a day is reached, by the time when there is room
--   weights        hash: organization -> its weight: so many turns for each one of a lane of the weight 1, which is that of
--                  organizations without one. A turn takes a lane on by 1 / weight in virtual time
--   restrictions   hash: `*` for all, an organization, `ORGANIZATION CAMPAIGN` or a provider -> `END INTERVAL`: until when
--                  it is paused, with an interval of 0, or gets a message each so many microseconds
--   asleep:ID      sorted set: lanes that wait for a provider, for a restriction as `!` and its name, or for one of the
--                  places of their organization as `~` and the organization, by their virtual time
--   wake           sorted set: what lanes wait for, by the time of its next turn
--   where          hash: a lane that waits -> what it waits for
--
-- Times are microseconds since 1970 by the clock of the server.

local LANE_SPAN, LOWEST_SCORE = 2 ^ 35, -2 ^ 53
local BULK_OFFSET, MAX_LANES = 131072, 131071
local EPOCH_MILLISECONDS, MAX_PRIORITY = 1767225600000, 1023
local SECOND, KEPT_SECONDS = 1000000, 604800
-- Start times are given out this far ahead, so that none is lost between two calls.
local LOOKAHEAD = 250000
-- The turns of a day are counted in parts of ten minutes, so one counts for ten minutes longer at most.
local DAY_PART, DAY_PARTS = 600000000, 144
-- What others have sent of a provider's quota is asked about again within an hour.
local UNKNOWN_ROOM = 3600000000

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

-- Return whether a lane waits for something that will wake it. A wait of which keys were lost is forgotten.
local function is_asleep(base, lane)
    local blocker = redis.call('HGET', base .. 'adm:where', lane)
    if not blocker then
        return false
    end
    if redis.call('ZSCORE', base .. 'adm:wake', blocker) and redis.call('ZSCORE', base .. 'adm:asleep:' .. blocker, lane) then
        return true
    end
    redis.call('HDEL', base .. 'adm:where', lane)
    return false
end

-- Let a lane with jobs take part, unless it waits for a provider. It saves up no turns while it has no jobs.
local function make_ready(base, lane)
    if is_asleep(base, lane) then
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

-- Let a lane wait until a time at the latest, for what its next message waits for.
local function let_sleep(base, lane, at, blocker, until_time)
    redis.call('ZREM', base .. 'adm:ready' .. class_of(tonumber(lane)), lane)
    redis.call('ZADD', base .. 'adm:asleep:' .. blocker, precise(at), lane)
    redis.call('HSET', base .. 'adm:where', lane, blocker)
    redis.call('ZADD', base .. 'adm:wake', 'LT', whole(until_time), blocker)
end

-- Have the lanes that wait for something judged anew, at once.
local function judge_anew(base, blocker)
    redis.call('ZADD', base .. 'adm:wake', 'XX', 0, blocker)
    redis.call('ZADD', base .. 'marker', 0, '0')
end

-- Return a provider, its interval and its burst, nil without a limit of the rate, and its limit of a day, nil without one.
local function read_entry(entry)
    local provider, interval, burst, rest = string.match(entry, '^(.-)@(%d*):(%d*):?(%d*)$')
    if not provider then
        return entry, nil, 0, nil
    end
    return provider, tonumber(interval), tonumber(burst) or 0, tonumber(rest)
end

-- Return how many turns over a provider count within 24 hours, and the oldest part of the day with one. Older parts are
-- forgotten.
local function day_count(base, provider, now)
    local key = base .. 'adm:day:' .. provider
    local known = redis.call('HMGET', key, 'total', 'first')
    local total, first = tonumber(known[1]) or 0, tonumber(known[2])
    local oldest = math.floor(now / DAY_PART) - DAY_PARTS
    if not first or first >= oldest then
        return total, first
    end
    if first < oldest - 2 * DAY_PARTS then
        redis.call('DEL', key)
        return 0, nil
    end
    for part = first, oldest - 1 do
        total = total - (tonumber(redis.call('HGET', key, whole(part))) or 0)
        redis.call('HDEL', key, whole(part))
    end
    redis.call('HSET', key, 'total', whole(total), 'first', whole(oldest))
    return total, oldest
end

-- Count a turn over a provider, or take one back that was not used.
local function count_day(base, provider, now, by)
    local key, part = base .. 'adm:day:' .. provider, math.floor(now / DAY_PART)
    local _, first = day_count(base, provider, now)
    if by < 0 then
        for _ = 1, 2 do
            if (tonumber(redis.call('HGET', key, whole(part))) or 0) > 0 then
                break
            end
            part = part - 1
        end
        if (tonumber(redis.call('HGET', key, whole(part))) or 0) <= 0 then
            return
        end
    end
    redis.call('HINCRBY', key, whole(part), by)
    redis.call('HINCRBY', key, 'total', by)
    if not first then
        redis.call('HSET', key, 'first', whole(part))
    end
    redis.call('EXPIRE', key, 2 * DAY_PARTS * DAY_PART / SECOND)
end

-- Return from when on a provider has room within its limit of a day for one more message, 0 for now; `others` are messages
-- that were not sent from here.
local function day_room(base, provider, now, most, others)
    local total, first = day_count(base, provider, now)
    local over = total + others - most + 1
    if over <= 0 then
        return 0
    end
    for part = first or math.huge, math.floor(now / DAY_PART) do
        over = over - (tonumber(redis.call('HGET', base .. 'adm:day:' .. provider, whole(part))) or 0)
        if over <= 0 then
            return (part + DAY_PARTS + 1) * DAY_PART
        end
    end
    return now + UNKNOWN_ROOM
end

-- Return how many messages a provider may be sent within 24 hours, nil for no limit, by its configuration and its account.
local function day_limit(configured, account)
    return configured and account and math.min(configured, account) or configured or account
end
