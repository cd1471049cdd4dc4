-- Note what became of a message, and learn from it how many a second its provider takes; admission.lua and
-- admission_learning.lua stand before it.
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
-- A quota of a day says nothing about the rate. Where the account is known, others have used up what is left of it, until
-- the account is asked about again; else the provider is left alone for as long as is said.
--
-- Returns how many connections a process may have to the provider, -1 for no limit.

local MAX_CONNECTIONS = 100

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
