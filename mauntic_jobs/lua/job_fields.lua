-- Return some fields of BullMQ jobs.
--
-- KEYS     the jobs, hashes
-- ARGV     the names of the fields
--
-- Returns for each job the list of its values; false for what it does not have.

local found = {}
for number, key in ipairs(KEYS) do
    found[number] = redis.call('HMGET', key, unpack(ARGV))
end
return found
