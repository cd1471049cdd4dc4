-- Lines of a job that were changed, until their slots are accounted for.

ALTER TABLE mauntic_jobs.schedules ADD COLUMN former text[] NOT NULL DEFAULT '{}';

COMMENT ON COLUMN mauntic_jobs.schedules.former IS
'lines before this one, whose slots after `settled` are not all accounted for';
