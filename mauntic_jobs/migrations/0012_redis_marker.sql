-- A number that is in Redis too: where Redis has a lower one, it has lost data.

CREATE TABLE mauntic_jobs.redis_marker (
    prefix text PRIMARY KEY,
    number bigint NOT NULL,
    marked_at timestamptz NOT NULL,
    lost_at timestamptz,
    lost_since timestamptz,
    kept_until timestamptz,
    recovered_at timestamptz
);

COMMENT ON COLUMN mauntic_jobs.redis_marker.prefix IS 'what the keys of the queues begin with';
COMMENT ON COLUMN mauntic_jobs.redis_marker.number IS 'the number that Redis had at marked_at';
COMMENT ON COLUMN mauntic_jobs.redis_marker.lost_at IS 'when a loss was noticed that was not recovered from yet, or null';
COMMENT ON COLUMN mauntic_jobs.redis_marker.lost_since IS 'the last look before which nothing was lost';
COMMENT ON COLUMN mauntic_jobs.redis_marker.kept_until IS 'the last look that Redis remembers; null if it was emptied';
