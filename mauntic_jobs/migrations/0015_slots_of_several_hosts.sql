-- What several hosts with settings of their own have to know of each other: how long a run may be silent, and whose cron
-- line the slots of a job go by.

ALTER TABLE mauntic_jobs.runs ADD COLUMN takeover_after interval;

COMMENT ON COLUMN mauntic_jobs.runs.takeover_after IS
'after this silence the run is taken over; null for runs of earlier versions, which go by the setting of the taker';

CREATE INDEX runs_lost ON mauntic_jobs.runs (job, slot) WHERE status = 'lost';

ALTER TABLE mauntic_jobs.schedules
    ADD COLUMN set_by text,
    ADD COLUMN previous_cron text,
    ADD COLUMN previous_by text,
    ADD COLUMN changed_at timestamptz,
    ADD COLUMN returns int NOT NULL DEFAULT 0;

COMMENT ON COLUMN mauntic_jobs.schedules.set_by IS 'the clock that has set this line, as launcher and host';
COMMENT ON COLUMN mauntic_jobs.schedules.returns IS
'how often in a row the line was changed back to the one before within a day of the last change';
