-- Backfills: windows of a job that an operator wants rebuilt. How far each has come is read off the ledger of runs, whose
-- rows commit with the data: no second record can differ from it.
CREATE TABLE mauntic_jobs.backfills (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job text NOT NULL,
    range_start timestamptz NOT NULL,
    range_end timestamptz NOT NULL,
    options json NOT NULL DEFAULT '{}',
    reprocess text[] NOT NULL,
    newest_first boolean NOT NULL,
    parallel integer NOT NULL CHECK (parallel > 0),
    stop_after_failures integer NOT NULL CHECK (stop_after_failures > 0),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'canceled', 'ended')),
    reason text,
    failures integer NOT NULL DEFAULT 0,
    retried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    worked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    host text NOT NULL,
    pid integer NOT NULL,
    ended_at timestamptz,
    CHECK (range_start < range_end),
    CHECK ((state IN ('canceled', 'ended')) = (ended_at IS NOT NULL))
);

COMMENT ON COLUMN mauntic_jobs.backfills.reason IS 'why it is paused or was canceled';
COMMENT ON COLUMN mauntic_jobs.backfills.failures IS 'runs that failed since it was started or resumed';
COMMENT ON COLUMN mauntic_jobs.backfills.retried_at IS 'windows whose run failed before are tried again';
COMMENT ON COLUMN mauntic_jobs.backfills.worked_at IS 'the latest sign of life of a process that works on it';
COMMENT ON COLUMN mauntic_jobs.backfills.host IS 'the host of that process, and its pid';

CREATE INDEX backfills_open ON mauntic_jobs.backfills (job) WHERE ended_at IS NULL;

CREATE TABLE mauntic_jobs.backfill_windows (
    backfill_id bigint NOT NULL REFERENCES mauntic_jobs.backfills ON DELETE CASCADE,
    position integer NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    found text NOT NULL,
    skipped text,
    PRIMARY KEY (backfill_id, window_start),
    CHECK (window_start < window_end)
);

COMMENT ON COLUMN mauntic_jobs.backfill_windows.found IS 'how the window stood when the backfill was planned';
COMMENT ON COLUMN mauntic_jobs.backfill_windows.skipped IS 'why it is left out; null if it is to be run';

ALTER TABLE mauntic_jobs.runs ADD COLUMN backfill_id bigint;

-- A window of a backfill is run by one process at a time, and succeeds once.
CREATE UNIQUE INDEX runs_backfill_window ON mauntic_jobs.runs (backfill_id, window_start)
WHERE backfill_id IS NOT NULL AND status IN ('running', 'succeeded');
CREATE INDEX runs_of_backfill ON mauntic_jobs.runs (backfill_id, window_start, id) WHERE backfill_id IS NOT NULL;

-- Each window with the run that decides about it. Runs that were lost or stopped decide nothing.
CREATE VIEW mauntic_jobs.backfill_progress AS
SELECT
    planned.backfill_id, planned.position, planned.window_start, planned.window_end, planned.found,
    CASE
        WHEN planned.skipped IS NOT NULL THEN 'skipped'
        WHEN run.status = 'succeeded' THEN 'done'
        WHEN run.status IS NOT NULL THEN run.status
        WHEN backfill.state = 'canceled' THEN 'canceled'
        ELSE 'waiting'
    END AS state,
    coalesce(planned.skipped, run.error) AS reason,
    run.id AS run_id, run.started_at, run.counters
FROM mauntic_jobs.backfill_windows AS planned
INNER JOIN mauntic_jobs.backfills AS backfill ON backfill.id = planned.backfill_id
LEFT JOIN LATERAL (
    SELECT id, status, error, started_at, counters
    FROM mauntic_jobs.runs
    WHERE
        runs.backfill_id = planned.backfill_id AND runs.window_start = planned.window_start
        AND status IN ('running', 'succeeded', 'failed')
    ORDER BY status = 'succeeded' DESC, runs.id DESC
    LIMIT 1
) AS run ON planned.skipped IS NULL;

-- Who could run the clock before can run backfills.
DO $grants$
DECLARE
    clock regrole;
BEGIN
    FOR clock IN
        SELECT acl.grantee::regrole
        FROM pg_class AS schedules, aclexplode(schedules.relacl) AS acl
        WHERE
            schedules.oid = 'mauntic_jobs.schedules'::regclass AND acl.privilege_type = 'UPDATE'
            AND acl.grantee NOT IN (0, schedules.relowner)
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON mauntic_jobs.backfills TO %s', clock);
        EXECUTE format('GRANT SELECT, INSERT ON mauntic_jobs.backfill_windows TO %s', clock);
        EXECUTE format('GRANT SELECT ON mauntic_jobs.backfill_progress TO %s', clock);
    END LOOP;
END
$grants$;
