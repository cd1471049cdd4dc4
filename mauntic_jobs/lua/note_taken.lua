-- The end of a script whose beginning is one of BullMQ's own, as the function `bullmq`: a job that it has taken gets a note
-- that its next stall is this program's. The note stands as soon as the job is taken, though the answer is lost.
--
-- KEYS           those of BullMQ's script
-- ARGV[#ARGV]    the queue's prefix and name, and a colon; before it the arguments of BullMQ's script
--
-- The field `mauntic-jobs:stalls` of a job, a hash, holds how many of its stalls are accounted for. It is not raised where
-- a worker of another program has stalled: the consumer does that once the ledger knows.
--
-- Returns what BullMQ's script returns; of a job that was taken the fields as they were before the note.

local answer = bullmq()
if type(answer) == 'table' and type(answer[1]) == 'table' then
    local fields = {}
    for place = 1, #answer[1], 2 do
        fields[answer[1][place]] = answer[1][place + 1]
    end
    local stalls = (tonumber(fields['stc']) or 0) + (tonumber(fields['stalledCounter']) or 0)
    if fields['timestamp'] and stalls <= (tonumber(fields['mauntic-jobs:stalls']) or 0) then
        redis.call('HSET', ARGV[#ARGV] .. answer[2], 'mauntic-jobs:stalls', stalls + 1)
    end
end
return answer
