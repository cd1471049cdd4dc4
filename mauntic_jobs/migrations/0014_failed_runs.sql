-- Indexes for the dead letters among the runs.

-- The failures among the runs, and the windows that have succeeded: dead letters are the ones without the others.
CREATE INDEX runs_failed ON mauntic_jobs.runs (finished_at) WHERE status IN ('failed', 'lost');
CREATE INDEX runs_succeeded ON mauntic_jobs.runs (job, window_start) WHERE status = 'succeeded';
CREATE INDEX runs_covering ON mauntic_jobs.runs USING gist (tstzrange(window_start, window_end))
WHERE status = 'succeeded';
