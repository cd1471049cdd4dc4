-- What the windows of a backfill looked like when it was planned: what has changed since is not rebuilt.
ALTER TABLE mauntic_jobs.backfill_windows
    ADD COLUMN planned_input text,
    ADD COLUMN planned_target text,
    ADD CONSTRAINT backfill_windows_planned CHECK (num_nulls(planned_input, planned_target) IN (0, 2));

COMMENT ON COLUMN mauntic_jobs.backfill_windows.planned_input IS 'checksum of what was to be recorded; null without a plan';
COMMENT ON COLUMN mauntic_jobs.backfill_windows.planned_target IS 'checksum of what was recorded then';
