-- Learn from a provider's answer how many messages a second it takes; admission.lua stands before it.
--
-- KEYS[1]  the hash `limit:ID` of admission.lua
-- ARGV[1]  the provider
-- ARGV[2]  what became of a message: `accepted`, `refused` for its rate, `unlimited` if it was refused for its rate but
--          nothing limited the provider as it was sent, `full` for the quota of a day, or `unsent`, whose turn was not used.
--          Two more are about the limit of a day alone: `elsewhere` takes back a turn whose message this provider did
--          not take, `counted` adds a message that it took without a turn
-- ARGV[3]  for how many microseconds the provider asks to be left alone; 0 if it does not say
-- ARGV[4]  the organization
-- ARGV[5]  its providers and their limits as admission.lua has them
-- ARGV[6]  the queue's prefix and name, and a colon
--
-- Without a configured limit a provider is unlimited until it refuses. Then it is sent START_RATE messages a second, and
-- twice as many each second, until it refuses again: the rate is kept, and what it takes is counted. That is its rate
-- from then on. A refusal lowers it by as much as is refused, one message in so many; four among 20 measure it again.
-- Higher rates are tried: by 10 % at first, then half of the way to the lowest one that was refused, each the later the
-- less it is higher, so that a refusal costs little. Once the two are 1 % apart, a rate above both is tried after 15 s,
-- later after 60 s, and at least 100 messages; then more and more, for as long as that is used and nothing is refused.
--
-- A provider that allows no burst takes half of its rate from one that sends a little more: what is measured is too low
-- then, and the tries find the rest. Only a refusal that comes while messages wait tells the provider's rate: where fewer
-- are sent than it would take, nothing is learned. A provider that takes nothing for 8 s is left alone for 30 s, then for
-- twice as long, up to 10 min.
--
-- A quota of a day says nothing about the rate. Where the account is known, others have used up what is left of it, until
-- the account is asked about again; else the provider is left alone for as long as is said.
--
-- Fields: `phase` start, measure, hold or probe; `r` messages a second; `good` the rate before a probe; `at` when the
-- phase began; `n` accepted and `refused` in it; `answers`, `refusals` of the latest twenty; `down` when the rate was
-- lowered, `calm` since when nothing was refused; `high` the lowest rate that was refused; `step` by which share a
-- probe is higher at most; `patience` the seconds before a rate above a refused one is tried; `pause` the seconds for
-- which it was left alone.
--
-- Returns how many connections a process may have to the provider, -1 for no limit.

local provider, outcome, asked, organization, limits, base = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local START_RATE, MAX_RATE, MIN_RATE, MAX_CONNECTIONS = 2, 2000, 0.02, 100
-- Higher rates are tried by these shares at first. A rate is known where one that is higher by less was refused.
local FIRST_STEP, STEP, KNOWN, MAX_PATIENCE = 0.1, 0.03, 0.005, 600
local key, now = KEYS[1], time_now()
local state = {}
local flat = redis.call('HGETALL', key)
for place = 1, #flat, 2 do
    state[flat[place]] = tonumber(flat[place + 1]) or flat[place + 1]
end

-- Return the rate by the configuration, or else by the account; nil without one.
local function configured_rate()
    for entry in string.gmatch(limits, '%S+') do
        local name, interval = read_entry(entry)
        if name == provider and interval then
            return SECOND / interval
        end
    end
    return state.a and SECOND / state.a
end

local function is_counted()
    if state.m then
        return true
    end
    for entry in string.gmatch(limits, '%S+') do
        local name, _, _, day = read_entry(entry)
        if name == provider and day then
            return true
        end
    end
    return false
end

local function fill_up()
    if state.m then
        local total = day_count(base, provider, now)
        redis.call('HSET', key, 'o', whole(math.max(state.o or 0, state.m - total)))
        -- The account is asked about soon.
        redis.call('PEXPIRE', base .. 'adm:asked:' .. provider, DAY_PART / 1000)
    else
        redis.call('HSET', key, 'f', whole(math.max(state.f or 0, now + asked)))
    end
    redis.call('HSET', base .. 'adm:limits', organization, limits)
    redis.call('EXPIRE', key, KEPT_SECONDS)
end

local function begin(phase)
    state.phase, state.at, state.n, state.refused = phase, now, 0, 0
end

local function set_rate(rate)
    state.r = math.max(rate, MIN_RATE)
    state.i = SECOND / state.r
end

local function hold(rate, high, step)
    set_rate(rate)
    begin('hold')
    state.good, state.calm, state.down, state.answers, state.refusals = state.r, now, now, 0, 0
    state.high, state.step = high, step
end

-- Return the share by which the next rate to be tried is higher: half of the way to one that was refused.
local function next_step()
    if not state.high then
        return state.step
    end
    return math.min(state.step, (state.high / state.r - 1) / 2)
end

-- Try a higher rate, once nothing was refused for so long that a refusal is worth it.
local function probe()
    local share = next_step()
    local is_known = share < KNOWN
    local seconds = is_known and math.max(state.patience or 60, 100 / state.r) or math.max(3, 0.5 / (share * state.r))
    if now - state.calm <= math.min(seconds, MAX_PATIENCE) * SECOND then
        return
    end
    if is_known then
        -- The provider may take more than it did.
        state.high, state.step, share = MAX_RATE * 2, STEP, STEP
        state.patience = math.min((state.patience or 60) * 2, 60)
    end
    state.good = state.r
    set_rate(state.r * (1 + share))
    begin('probe')
end

local function end_measurement()
    local seconds = (now - state.at) / SECOND
    if not ((state.n >= 20 and seconds >= 0.5) or (state.n >= 5 and seconds >= 2) or seconds >= 8) then
        return
    end
    if state.n == 0 then
        -- It takes nothing: a quota is used up, it may be.
        state.pause = math.min((state.pause or 15) * 2, 600)
        state.p = now + state.pause * SECOND
        set_rate(START_RATE)
        begin('start')
        state.at = state.p
        return
    end
    local measured = state.n / seconds * 0.98
    state.pause = 15
    if state.refused > 0 then
        -- Answers that come late may blame too low a rate.
        state.patience = 15
        hold(measured, math.max(state.r, measured * 1.1), FIRST_STEP)
    else
        hold(math.max(measured, state.r), MAX_RATE * 2, STEP)
    end
end

local function refuse()
    if state.phase and outcome == 'unlimited' then
        -- Its answer comes after the rate was limited, and says nothing about that.
        return
    end
    if not state.phase then
        local rate = configured_rate()
        if rate then
            hold(rate * 0.97, rate, STEP)
        else
            set_rate(START_RATE)
            begin('start')
        end
        return
    end
    state.calm = now
    if state.phase == 'start' then
        -- Those of the first second were sent before the limit was known.
        if now - state.at > SECOND then
            begin('measure')
            state.refused = 1
        end
    elseif state.phase == 'measure' then
        state.refused = state.refused + 1
        end_measurement()
    elseif state.phase == 'probe' then
        hold(state.good, state.r, STEP)
    else
        state.answers, state.refusals = state.answers + 1, state.refusals + 1
        if state.refusals >= 4 then
            begin('measure')
            state.refused = 1
        elseif now - state.down > math.max(SECOND, 2 * state.i) then
            -- One in so many messages was refused: the rate is so much too high.
            state.high = state.r
            set_rate(state.r * (1 - math.min(math.max(1 / (state.n + 1), 0.01), 0.05)))
            state.down, state.n = now, 0
        end
    end
end

local function accept()
    if state.phase == 'start' then
        set_rate(START_RATE * 2 ^ math.floor((now - state.at) / SECOND))
    elseif state.phase == 'measure' then
        state.n = state.n + 1
        end_measurement()
    elseif state.phase == 'hold' then
        state.answers = state.answers + 1
        if state.answers >= 20 then
            state.answers, state.refusals = 0, 0
        end
        state.n = state.n + 1
        probe()
    else
        state.n = state.n + 1
        local seconds = (now - state.at) / SECOND
        if seconds > math.max(4, 8 / state.r) then
            if state.n / seconds > 0.7 * state.r then
                state.good, state.step = state.r, math.min(state.step * 1.7, 0.5)
                if next_step() < KNOWN then
                    hold(state.good, state.high, state.step)
                else
                    set_rate(state.r * (1 + next_step()))
                    begin('probe')
                end
            else
                -- So few were sent that nothing is learned from it.
                hold(state.good, state.high, STEP)
            end
        end
    end
    if state.r > (configured_rate() or MAX_RATE) then
        -- It takes all that it may be sent: nothing is left to be learned.
        redis.call('HDEL', key, 'i', 'phase')
        return false
    end
    return true
end

-- Return how many connections a process may have; while messages are taken, one more is tried now and then.
local function connections()
    if not state.k then
        return -1
    end
    if outcome == 'accepted' and now - state.kt > state.kw * SECOND then
        state.k, state.kt = state.k + 1, now
        if state.k > MAX_CONNECTIONS then
            redis.call('HDEL', key, 'k', 'kt', 'kw')
            return -1
        end
        redis.call('HSET', key, 'k', state.k, 'kt', whole(now))
    end
    return state.k
end

if outcome == 'full' then
    fill_up()
    return connections()
end
if (outcome == 'unsent' or outcome == 'elsewhere' or outcome == 'counted') and is_counted() then
    count_day(base, provider, now, outcome == 'counted' and 1 or -1)
end
if outcome == 'elsewhere' or outcome == 'counted' then
    return connections()
end
if outcome == 'unsent' then
    local interval = state.i or (configured_rate() and SECOND / configured_rate())
    if interval and (state.t or 0) > now then
        redis.call('HSET', key, 't', whole(state.t - interval))
    end
    return connections()
end
if outcome == 'refused' or outcome == 'unlimited' then
    refuse()
    redis.call('HSET', base .. 'adm:limits', organization, limits)
    if asked > 0 then
        state.p = math.max(state.p or 0, now + asked)
    end
elseif not state.phase or not accept() then
    return connections()
end
local words = {}
for name, value in pairs(state) do
    if name ~= 't' then
        words[#words + 1] = name
        words[#words + 1] = type(value) == 'number' and precise(value) or value
    end
end
redis.call('HSET', key, unpack(words))
redis.call('EXPIRE', key, KEPT_SECONDS)
return connections()
