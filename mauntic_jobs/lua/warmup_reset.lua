-- Let the counters of sending domains start a day: keep what was counted for that day or later, drop the rest.
-- Only a domain's first reset for a date does that; later ones leave the counter alone, whichever program increments it.
--
-- KEYS     for each domain two, as in warmup_count.lua:
--          the counter, a string; one that has no time to live gets 3 days
--          the account, a hash: a date -> the messages counted for it, `reset` -> the date of the last reset; expires
--          3 days after it was last written
-- ARGV[1]  the date that starts, YYYY-MM-DD, UTC
-- ARGV[2]  the date after that: where that one has been started already, this call is late by a midnight and changes
--          nothing. A reset for any later date is the work of a wrong clock, and is not believed.
-- ARGV[3]  1 to write, 0 to only tell what would be written
--
-- Returns for each domain two: the counter before, as it stands there (nil: it does not exist), and the counter
-- afterwards as an integer (nil: it was reset already, and is not touched).

local TTL_SECONDS = 259200

local function read(account)
    local fields = redis.pcall('HGETALL', account)
    if fields.err then
        error(account .. ' is not a hash: delete it', 0)
    end
    local reset, sent = false, 0
    for i = 1, #fields, 2 do
        if fields[i] == 'reset' then
            reset = fields[i + 1]
        elseif fields[i] >= ARGV[1] then
            sent = sent + fields[i + 1]
        end
    end
    return reset, math.max(sent, 0)
end

local function write(counter, account, sent)
    if sent > 0 then
        redis.call('SET', counter, string.format('%d', sent), 'KEEPTTL')
        if redis.call('TTL', counter) < 0 then
            redis.call('EXPIRE', counter, TTL_SECONDS)
        end
    else
        redis.call('DEL', counter)
    end
    redis.call('HSET', account, 'reset', ARGV[1])
    redis.call('EXPIRE', account, TTL_SECONDS)
end

local function start(counter, account)
    local reset, sent = read(account)
    local before = redis.pcall('GET', counter)
    if type(before) == 'table' then
        -- It cannot be a counter; what replaces it can.
        before = 'not a string'
    end
    if reset == ARGV[1] or reset == ARGV[2] then
        return before, false
    end
    if ARGV[3] == '1' then
        write(counter, account, sent)
    end
    return before, sent
end

local results = {}
for i = 1, #KEYS, 2 do
    results[i], results[i + 1] = start(KEYS[i], KEYS[i + 1])
end
return results
