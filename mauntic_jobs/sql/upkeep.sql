-- Tasks that the clock runs beside the jobs: watching and pruning.

-- claim -- Claim the latest slot of each task, unless a clock has claimed it or the task's latest run is under way.
-- Earlier slots are never caught up with. A run whose clock has died counts as failed. There is nothing to publish while
-- the outbox is empty.
INSERT INTO mauntic_jobs.upkeep AS known (task, slot, claimed_by, started_at, ends_by)
SELECT
    wanted.task, date_bin(wanted.every, clock_timestamp(), timestamptz '2000-01-01 00:00+00' + wanted.at),
    %(claimed_by)s, clock_timestamp(), clock_timestamp() + wanted.lease
FROM unnest(%(tasks)s::text[], %(every)s::interval[], %(at)s::interval[], %(leases)s::interval[])
    AS wanted (task, every, at, lease)
WHERE wanted.task <> 'outbox' OR EXISTS (SELECT FROM mauntic_jobs.outbox WHERE published_at IS NULL)
ON CONFLICT (task) DO UPDATE
SET slot = EXCLUDED.slot, claimed_by = EXCLUDED.claimed_by, started_at = EXCLUDED.started_at,
    ends_by = EXCLUDED.ends_by, finished_at = NULL, exit_code = NULL,
    error = CASE WHEN known.finished_at IS NULL THEN 'the process that had started it did not see its end' ELSE known.error END,
    failures = known.failures + (known.finished_at IS NULL)::integer
WHERE
    (known.slot IS NULL OR known.slot < EXCLUDED.slot)
    AND (known.finished_at IS NOT NULL OR known.ends_by < EXCLUDED.started_at)
RETURNING task, started_at

-- record -- Write down how runs ended, unless another clock has claimed the task since. `failed` is null for a run that
-- was stopped: its slot is due again.
UPDATE mauntic_jobs.upkeep AS known
SET finished_at = clock_timestamp(), exit_code = ended.exit_code, error = ended.error,
    slot = CASE WHEN ended.failed IS NULL THEN NULL ELSE known.slot END,
    failures = CASE WHEN ended.failed THEN known.failures + 1 WHEN ended.failed IS NULL THEN known.failures ELSE 0 END
FROM unnest(
    %(tasks)s::text[], %(starts)s::timestamptz[], %(codes)s::integer[], %(errors)s::text[], %(failed)s::boolean[]
) AS ended (task, started_at, exit_code, error, failed)
WHERE known.task = ended.task AND known.started_at = ended.started_at

-- failing -- Tasks that have failed several times in a row, and that a clock still starts.
SELECT task, claimed_by, started_at, failures, error
FROM mauntic_jobs.upkeep
WHERE task = any(%(tasks)s::text[]) AND failures >= %(failures)s AND started_at >= clock_timestamp() - %(within)s::interval
ORDER BY task

-- list -- Every task that a clock has ever started, and how its latest run went.
SELECT task, claimed_by, started_at, finished_at, exit_code, failures, error
FROM mauntic_jobs.upkeep
ORDER BY task

-- started -- Tasks that a clock has started of late.
SELECT task FROM mauntic_jobs.upkeep WHERE started_at >= clock_timestamp() - %(within)s::interval
