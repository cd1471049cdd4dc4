-- How long each run may be silent, by its owner's own settings: another host's are no measure of it.

ALTER TABLE mauntic_jobs.runs ADD COLUMN takeover_after interval;

COMMENT ON COLUMN mauntic_jobs.runs.takeover_after IS
'after this silence the run is taken over; null for runs of earlier versions, which go by the setting of the taker';

CREATE INDEX runs_lost ON mauntic_jobs.runs (job, slot) WHERE status = 'lost';
