-- Jobs whose slots wait until an instant, because an operator wants them to.
ALTER TABLE mauntic_jobs.schedules
    ADD COLUMN paused_until timestamptz,
    ADD COLUMN paused_why text,
    ADD COLUMN paused_by text,
    ADD CONSTRAINT schedules_paused CHECK (num_nulls(paused_until, paused_why, paused_by) IN (0, 3));

COMMENT ON COLUMN mauntic_jobs.schedules.paused_until IS 'until then no slot of the job is run; it may be past';
COMMENT ON COLUMN mauntic_jobs.schedules.paused_by IS 'who has paused it';
