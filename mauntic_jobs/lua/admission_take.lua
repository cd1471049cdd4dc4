-- The end of a script that may take a job. Before it stand one of BullMQ's own scripts as the function `bullmq`,
-- admission.lua and admission_turns.lua: the job whose turn it is is put where BullMQ takes it. The job gets a note that
-- its next stall is this program's; the note stands as soon as the job is taken, though the answer is lost.
--
-- KEYS           those of BullMQ's script
-- ARGV[#ARGV-1]  the place in ARGV of what tells BullMQ's script to take a job, 0 if that is all that it does
-- ARGV[#ARGV]    the queue's prefix and name, and a colon; before both the arguments of BullMQ's script
--
-- The field `mauntic-jobs:stalls` of a job, a hash, holds how many of its stalls are accounted for. It is not raised where
-- a worker of another program has stalled: the consumer does that once the ledger knows.
--
-- Returns what BullMQ's script returns; of a job that was taken the fields as they were before the note, and after what
-- BullMQ returns its lane, its provider, for how many microseconds it waits for its turn, and its organization's limits.

local DAY = 86400000000
local base, switch = ARGV[#ARGV], tonumber(ARGV[#ARGV - 1])

local function is_closed()
    local meta = redis.call('HMGET', base .. 'meta', 'paused', 'concurrency', 'max')
    local finishing = switch > 0 and 1 or 0
    return meta[1] or (meta[2] and redis.call('LLEN', base .. 'active') - finishing >= tonumber(meta[2]))
        or (meta[3] and tonumber(redis.call('GET', base .. 'limiter') or 0) >= tonumber(meta[3]))
end

-- Return an answer that brings no job along: for how many milliseconds none is to be expected, 0 for no end.
local function later(at, now)
    local due = redis.call('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')[2]
    local first = due and math.floor(tonumber(due) / 0x1000) * 1000 or 0
    if at > 0 and (first == 0 or at < first) then
        -- What has no end is asked for again.
        first = math.min(at, now + DAY)
    end
    return { 0, 0, first > 0 and math.max(1, math.ceil((first - now) / 1000)) or 0, 0 }
end

-- Return an answer of BullMQ's script with the turn of a job that it brings along, which gets its note.
local function noted(answer, ...)
    if type(answer) ~= 'table' or type(answer[1]) ~= 'table' then
        return answer
    end
    local fields = {}
    for place = 1, #answer[1], 2 do
        fields[answer[1][place]] = answer[1][place + 1]
    end
    local stalls = (tonumber(fields['stc']) or 0) + (tonumber(fields['stalledCounter']) or 0)
    if fields['timestamp'] and stalls <= (tonumber(fields['mauntic-jobs:stalls']) or 0) then
        redis.call('HSET', base .. answer[2], 'mauntic-jobs:stalls', stalls + 1)
    end
    return { answer[1], answer[2], 0, 0, ... }
end

if (switch > 0 and ARGV[switch] ~= '1') or is_closed() then
    -- BullMQ looks at its pauses and limits itself.
    return noted(bullmq())
end
local now = time_now()
sort(base, now)
wake(base, now + LOOKAHEAD)
local lane, provider, waits, limits = pick(base, now)
if lane then
    return noted(bullmq(), lane, provider, whole(waits), limits)
end
if switch > 0 then
    ARGV[switch] = '0'
    local answer = bullmq()
    if answer ~= 0 then
        return answer
    end
end
return later(provider, now)
