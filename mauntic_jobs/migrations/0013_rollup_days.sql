-- What the daily rollups of a day added up to when they were recorded last, so that another writer is noticed.

CREATE TABLE mauntic_jobs.rollup_days (
    date date PRIMARY KEY,
    events bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    foreign_events bigint,
    foreign_at timestamptz
);

COMMENT ON COLUMN mauntic_jobs.rollup_days.events IS 'sum of count over the rollups of the day at recorded_at';
COMMENT ON COLUMN mauntic_jobs.rollup_days.foreign_events IS
'by how much another program had changed the sum when that was noticed last, or null';
