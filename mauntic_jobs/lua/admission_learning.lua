-- How many messages a second a provider takes, learned from its answers; admission.lua stands before it, and
-- admission_report.lua after it, which says what the arguments are.
--
-- Without a configured limit a provider is unlimited until it refuses. Then it is sent START_RATE messages a second, and
-- twice as many each second, until it refuses again: the rate is kept, and what it takes is counted. That is its rate
-- from then on. A refusal lowers it by as much as is refused, one message in so many; four among 20 measure it again.
--
-- A provider that allows no burst takes each k-th message, so what is measured may be too low: it would have refused
-- messages k - 1 intervals apart, and so its rate lies between the two, and not below that of two messages that it took.
-- Half of the way from the rate to the lowest one that was refused is tried, and again, with hardly a pause, until the two
-- are 4 % apart. The upper rate was reckoned, not refused: once the half of the way to it is taken, it is tried itself, and
-- where it is taken too, higher ones are, until one is refused. Any other refusal that comes late in a try ends this search:
-- the provider allows a burst, so what was measured is right; or some messages come closer to each other than others, and
-- the rate is known well enough. A rate is tried for as long as it would take to use up what a burst may have left of one
-- message.
--
-- From then on a higher rate is tried the later the less it is higher, so that a refusal costs little, and after a try that
-- was refused not before 150 messages. Once the two rates are 2 % apart, one above both is tried after 15 s, later after
-- 60 s, and at least 150 messages; then more and more, for as long as that is used and nothing is refused.
--
-- A configured rate, or that of an account, is lowered in the same way, but tried again as a whole, once 20 messages in a
-- row and all of 10 s were taken at nearly that rate: new processes and new connections make some messages late, so that
-- the next ones come too close to them. Each further time it takes twice as much, up to 64 times, until the rate holds for
-- 10 min.
--
-- Only a refusal that comes while messages wait tells the provider's rate: where fewer are sent than it would take, nothing
-- is learned. A provider that takes nothing for 8 s is left alone for 30 s, then for twice as long, up to 10 min.
--
-- Fields: `phase` start, measure, hold or probe; `r` messages a second; `good` the rate before a probe; `at` when the
-- phase began; `n` accepted and `refused` in it; `answers`, `refusals` of the latest twenty; `down` when the rate was
-- lowered, `calm` since when nothing was refused; `high` the lowest rate that was refused; `step` by which share a
-- probe is higher at most; `search` 1 while the rates between what was measured and what was refused are tried;
-- `reckoned` 2 while `high` was not refused itself, 1 once the half of the way to it was taken; `wait` the messages before
-- the next probe; `patience` the seconds before a rate above a refused one is tried; `first`, `last` when messages of a
-- measurement were accepted, `gap` the shortest time between two of them; `pause` the seconds for which it was left alone;
-- `row` the messages accepted since the latest refusal; `trust` how much longer than at first it takes until a configured
-- rate is tried again, `trusted` when it was.

local provider, outcome, asked, organization, limits, base = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local START_RATE, MAX_RATE, MIN_RATE = 2, 2000, 0.02
-- Higher rates are tried by these shares at most: in the search, above it, and afterwards.
local SEARCH_STEP, ABOVE_STEP, STEP = 0.25, 0.06, 0.03
-- The search ends, and a rate is known, where the next one to be tried is higher by less.
local SEARCHED, KNOWN = 0.02, 0.01
-- A rate is tried so many messages after one that was refused, so that few are refused of all.
local PATIENT_MESSAGES, MAX_PATIENCE = 150, 600
-- A configured rate is tried again from this share of it on, after so many messages and seconds, or a multiple of both.
local NEARLY, TRUST_MESSAGES, TRUST_SECONDS, MAX_TRUST, TRUSTED_SECONDS = 0.75, 20, 10, 64, 600
-- A refusal after so many messages of a probe comes late.
local LATE_MESSAGES = 4
local NEVER = 1e18
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
    state.high, state.step, state.search, state.wait, state.reckoned = high, step, 0, 0, 0
end

-- Return the share by which the next rate to be tried is higher: half of the way to one that was refused, or the whole way
-- to one that was reckoned, once the half was taken.
local function next_step()
    if not state.high then
        return state.step
    end
    local whole_way = state.high / state.r - 1
    return math.min(state.step, state.reckoned == 1 and whole_way or whole_way / 2)
end

-- Return for how many seconds nothing is to be refused before a rate that is higher by a share is tried.
local function calm_seconds(share)
    if share < KNOWN then
        return math.max(state.patience or 60, PATIENT_MESSAGES / state.r)
    end
    if state.search == 1 and share >= SEARCHED then
        return math.max(2, 1 / state.r)
    end
    return math.max(3, (state.wait or 0) / state.r, 0.5 / (share * state.r))
end

-- Try a higher rate, once nothing was refused for so long that a refusal is worth it.
local function probe()
    local share = next_step()
    if now - state.calm <= math.min(calm_seconds(share), MAX_PATIENCE) * SECOND then
        return
    end
    if share < SEARCHED then
        state.search = 0
    end
    if share < KNOWN then
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
    -- The time before the first one was accepted is no whole interval.
    local taken = state.n / seconds
    if state.n > 1 then
        taken = math.min(taken, (state.n - 1) * SECOND / (now - (state.first or state.at)))
    end
    local measured = taken * 0.98
    state.pause = 15
    if state.refused > 0 then
        -- Answers that come late may blame too low a rate.
        state.patience = 15
        local without_burst = state.r > taken and 1 / (1 / taken - 1 / state.r) or state.r
        if state.n > 1 then
            without_burst = math.max(without_burst, SECOND / math.max(state.gap, 1))
        end
        hold(measured, math.max(math.min(state.r, without_burst), measured * (1 + SEARCH_STEP)), SEARCH_STEP)
        state.search, state.reckoned = 1, 2
    else
        hold(math.max(measured, state.r), MAX_RATE * 2, STEP)
    end
end

-- Lower a configured rate that was refused, or begin to look for one that is not known.
local function begin_learning()
    local rate = configured_rate()
    if not rate then
        set_rate(START_RATE)
        begin('start')
        return
    end
    hold(rate * 0.98, rate, STEP)
    if not state.trusted or now - state.trusted > TRUSTED_SECONDS * SECOND then
        state.trust = 1
    end
end

local function refuse()
    if state.phase and outcome == 'unlimited' then
        -- Its answer comes after the rate was limited, and says nothing about that.
        return
    end
    state.row = 0
    if not state.phase then
        begin_learning()
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
        local was_search = state.search == 1
        local is_late = now - state.at > math.max(SECOND, LATE_MESSAGES * state.i)
        local goes_on = was_search and (state.reckoned == 1 or not is_late)
        hold(state.good, state.r, goes_on and SEARCH_STEP or STEP)
        state.search, state.wait = goes_on and 1 or 0, was_search and 0 or PATIENT_MESSAGES
    elseif now - state.at > SECOND then
        -- Earlier ones were sent at the rate before.
        state.answers, state.refusals = state.answers + 1, state.refusals + 1
        if state.refusals >= 4 then
            begin('measure')
            state.refused = 1
        elseif now - state.down > math.max(SECOND, 2 * state.i) then
            -- One in so many messages was refused: the rate is so much too high.
            state.high = state.r
            set_rate(state.r * (1 - math.min(math.max(1 / (state.n + 1), 0.01), 0.05)))
            state.down, state.n, state.wait = now, 0, 0
        end
    end
end

-- Return whether a rate that was learned is forgotten, because messages may be sent as fast as is configured.
local function is_needless()
    local rate = configured_rate()
    if not rate then
        return state.r > MAX_RATE
    end
    local trust = state.trust or 1
    local is_calm = state.row >= trust * TRUST_MESSAGES and now - state.calm >= trust * TRUST_SECONDS * SECOND
    if is_calm and state.r >= NEARLY * rate then
        state.trusted, state.trust = now, math.min(trust * 2, MAX_TRUST)
        redis.call('HSET', key, 'trusted', whole(now), 'trust', state.trust)
        return true
    end
    return state.r > rate
end

-- Go on from a rate that is tried, once it was for long enough.
local function end_probe()
    local seconds = (now - state.at) / SECOND
    if seconds <= math.max(4, 4 / state.r, 1 / (state.r - state.good)) then
        return
    end
    if state.n / seconds <= 0.7 * state.r then
        -- So few were sent that nothing is learned from it.
        hold(state.good, state.high, STEP)
        return
    end
    state.good, state.step = state.r, math.min(state.step * 1.7, 0.5)
    if state.reckoned == 2 then
        state.reckoned = 1
    elseif state.reckoned == 1 then
        state.high, state.reckoned, state.search, state.step = MAX_RATE * 2, 0, 0, ABOVE_STEP
    end
    if next_step() < KNOWN then
        hold(state.good, state.high, state.step)
    else
        set_rate(state.r * (1 + next_step()))
        begin('probe')
    end
end

-- Note a message that was taken; return whether there is anything to write.
local function accept()
    state.row = (state.row or 0) + 1
    if state.phase == 'start' then
        set_rate(START_RATE * 2 ^ math.floor((now - state.at) / SECOND))
    elseif state.phase == 'measure' then
        state.n = state.n + 1
        if state.n == 1 then
            state.first, state.gap = now, NEVER
        else
            state.gap = math.min(state.gap, now - state.last)
        end
        state.last = now
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
        end_probe()
    end
    if is_needless() then
        redis.call('HDEL', key, 'i', 'phase')
        return false
    end
    return true
end
