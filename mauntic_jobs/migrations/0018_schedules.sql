-- Lines of a job that were changed, until their slots are accounted for.

ALTER TABLE mauntic_jobs.schedules
    ADD COLUMN former text[] NOT NULL DEFAULT '{}',
    ADD COLUMN previous_until timestamptz;

COMMENT ON COLUMN mauntic_jobs.schedules.former IS
'lines before this one, whose slots after `settled` are not all accounted for';
COMMENT ON COLUMN mauntic_jobs.schedules.previous_until IS 'the instant up to which the slots of `previous_cron` count';

-- Settings of a job's schedule that every clock reads. A row may stand here before a clock has looked at the job.
ALTER TABLE mauntic_jobs.schedules
    ALTER COLUMN cron DROP NOT NULL,
    ALTER COLUMN settled DROP NOT NULL,
    ADD COLUMN wanted_cron text,
    ADD COLUMN wanted_catch_up text,
    ADD COLUMN wanted_by text,
    ADD COLUMN wanted_at timestamptz,
    ADD CONSTRAINT schedules_settled_line CHECK ((cron IS NULL) = (settled IS NULL));

COMMENT ON COLUMN mauntic_jobs.schedules.wanted_cron IS
'the line that counts for every clock, whatever its settings; null where settings and the job decide';
COMMENT ON COLUMN mauntic_jobs.schedules.wanted_catch_up IS 'the catch-up policy that counts likewise';
COMMENT ON COLUMN mauntic_jobs.schedules.wanted_by IS 'the host on which it was set';
