-- The schema of mauntic-jobs, the record of its migrations, and the ledger of runs.

CREATE SCHEMA IF NOT EXISTS mauntic_jobs;

CREATE TABLE mauntic_jobs.migrations (
    version int PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE mauntic_jobs.runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job text NOT NULL,
    slot timestamptz,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    options json NOT NULL DEFAULT '{}',
    launcher text NOT NULL CHECK (launcher IN ('cli', 'schedule', 'backfill', 'bullmq', 'demo')),
    host text NOT NULL,
    pid int NOT NULL,
    version text NOT NULL,
    attempt int NOT NULL DEFAULT 1,
    exclusive boolean NOT NULL DEFAULT true,
    fencing_token bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'skipped', 'lost')),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    counters json NOT NULL DEFAULT '{}',
    error text,
    CHECK (window_start < window_end),
    CHECK ((status = 'running') = (finished_at IS NULL))
) WITH (fillfactor = 80);  -- room for heartbeats to update a row in place

COMMENT ON COLUMN mauntic_jobs.runs.counters IS 'what the job counted; json, not jsonb, to keep the job''s order';
COMMENT ON COLUMN mauntic_jobs.runs.exclusive IS 'false for a run that was allowed to overlap others';
COMMENT ON COLUMN mauntic_jobs.runs.fencing_token IS 'a run may only write while this is still its row''s token';

CREATE SEQUENCE mauntic_jobs.fencing_tokens OWNED BY mauntic_jobs.runs.fencing_token;

-- The claim: at most one exclusive run of a job is under way.
CREATE UNIQUE INDEX runs_claim ON mauntic_jobs.runs (job) WHERE status = 'running' AND exclusive;

CREATE INDEX runs_by_job ON mauntic_jobs.runs (job, started_at DESC);
