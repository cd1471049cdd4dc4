-- Find out whether scripts may be run on some keys. Changes nothing.
--
-- KEYS     any, of any kind
--
-- Returns how many of them exist.

return redis.call('EXISTS', unpack(KEYS))
