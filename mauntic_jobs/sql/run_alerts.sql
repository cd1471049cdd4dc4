-- What in the ledger of runs is worth an alert.

-- trouble -- Say whether anything may be worth a closer look: all that is asked when nothing is.
SELECT
    EXISTS (
        SELECT
        FROM mauntic_jobs.alerts
        WHERE close_notified_at IS NULL AND (closed_at IS NULL OR closed_at >= %(since)s)
    )
    OR EXISTS (
        SELECT
        FROM unnest(%(jobs)s::text[]) AS wanted (job)
        INNER JOIN mauntic_jobs.runs ON runs.job = wanted.job
        WHERE runs.started_at >= %(since)s AND runs.status IN ('running', 'failed', 'lost', 'missed')
    )
    OR EXISTS (SELECT FROM mauntic_jobs.upkeep WHERE task = any(%(tasks)s::text[]) AND failures >= %(failures)s)
    OR EXISTS (SELECT FROM mauntic_jobs.redis_marker WHERE lost_at IS NOT NULL) AS found

-- failed -- The latest run of each job that answered a slot, if it failed or was lost and no later one made up for it.
-- A run that an operator made with options of their own is none.
SELECT latest.*
FROM unnest(%(jobs)s::text[]) AS wanted (job)
CROSS JOIN LATERAL (
    SELECT id, job, slot, status, error, window_start, window_end, attempt, host, started_at
    FROM mauntic_jobs.runs
    WHERE
        runs.job = wanted.job AND slot IS NOT NULL AND status IN ('succeeded', 'failed', 'lost')
        AND NOT (launcher = 'cli' AND options::text <> '{}')
    ORDER BY started_at DESC
    LIMIT 1
) AS latest
WHERE
    latest.status <> 'succeeded'
    AND NOT EXISTS (
        SELECT
        FROM mauntic_jobs.runs AS better
        WHERE
            better.job = latest.job AND better.started_at >= latest.started_at AND better.status = 'succeeded'
            AND better.options::text = '{}' AND better.window_end >= latest.window_end
    )

-- long -- Runs under way, and how long the latest successful ones of the same job took at the 95th percentile.
SELECT
    running.id, running.job, running.host, running.pid, running.started_at,
    extract(epoch FROM %(now)s - running.started_at)::float8 AS seconds,
    usual.runs, usual.p95
FROM mauntic_jobs.runs AS running
CROSS JOIN LATERAL (
    SELECT count(*) AS runs, percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95
    FROM (
        SELECT extract(epoch FROM finished_at - started_at)::float8 AS seconds
        FROM mauntic_jobs.runs
        WHERE runs.job = running.job AND status = 'succeeded'
        ORDER BY started_at DESC
        LIMIT %(history)s
    ) AS latest
) AS usual
WHERE running.status = 'running' AND running.job = any(%(jobs)s::text[])

-- missed -- The latest slots that no clock ran in time, by job.
SELECT id, job, slot, window_start, window_end
FROM mauntic_jobs.runs
WHERE job = any(%(jobs)s::text[]) AND status = 'missed' AND started_at >= %(since)s
ORDER BY job, slot

-- usual -- What a job counted at earlier slots, latest first; with `weekly`, of the same weekday and hour.
SELECT DISTINCT ON (slot) (counters ->> %(measure)s)::float8 AS measure
FROM mauntic_jobs.runs
WHERE
    job = %(job)s AND status = 'succeeded' AND options::text = '{}' AND counters ->> %(measure)s IS NOT NULL
    AND started_at >= %(since)s AND slot >= %(since)s AND slot < %(slot)s
    AND (
        NOT %(weekly)s
        OR (extract(isodow FROM slot AT TIME ZONE 'UTC'), extract(hour FROM slot AT TIME ZONE 'UTC'))
        = (extract(isodow FROM %(slot)s AT TIME ZONE 'UTC'), extract(hour FROM %(slot)s AT TIME ZONE 'UTC'))
    )
ORDER BY slot DESC, id DESC
LIMIT %(history)s

-- withheld -- The groups that are withheld, by job.
SELECT
    job, count(*) AS groups, count(DISTINCT organization_id) AS organizations,
    array_agg(DISTINCT reason ORDER BY reason) AS reasons, min(bucket) AS oldest, max(bucket) AS newest,
    min(since) AS since, sum(old_total)::bigint AS old_total, sum(new_total)::bigint AS new_total
FROM mauntic_jobs.withheld
GROUP BY job
ORDER BY job
