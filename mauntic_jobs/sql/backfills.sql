-- Backfills: what is planned, how far it is, and who works on it. Who is alive is judged by the database's clock.

-- lock -- Let the backfills of a job be started and resumed one after the other, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('mauntic-jobs/backfills/' || %(job)s, 0))

-- overlapping -- Name a backfill of the job, other than `id`, that is not over and has part of the range.
SELECT id, state, range_start, range_end
FROM mauntic_jobs.backfills
WHERE job = %(job)s AND ended_at IS NULL AND id IS DISTINCT FROM %(id)s::bigint
  AND range_start < %(end)s AND range_end > %(start)s
ORDER BY id
LIMIT 1

-- create -- Record a backfill.
INSERT INTO mauntic_jobs.backfills
    (job, range_start, range_end, options, reprocess, newest_first, parallel, stop_after_failures, host, pid)
VALUES (%(job)s, %(start)s, %(end)s, %(options)s, %(reprocess)s::text[], %(newest_first)s, %(parallel)s,
        %(stop_after_failures)s, %(host)s, %(pid)s)
RETURNING id

-- add_windows -- Record the windows of a backfill, in the order in which they are to be run.
INSERT INTO mauntic_jobs.backfill_windows
    (backfill_id, position, window_start, window_end, found, skipped, planned_input, planned_target)
SELECT %(id)s, position, window_start, window_end, found, skipped, input, target
FROM unnest(
    %(starts)s::timestamptz[], %(ends)s::timestamptz[], %(found)s::text[], %(skipped)s::text[], %(inputs)s::text[],
    %(targets)s::text[]
) WITH ORDINALITY AS planned (window_start, window_end, found, skipped, input, target, position)

-- planned -- Tell what a window must look like to be run, null if it may look anyhow.
SELECT planned_input AS input, planned_target AS target
FROM mauntic_jobs.backfill_windows
WHERE backfill_id = %(id)s AND window_start = %(window_start)s AND planned_input IS NOT NULL

-- database -- Name the database, so that a plan is not taken to another one.
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system, current_database()::text AS name

-- speed -- Tell how long the latest successful runs of a job took: on average, and as a line over their events, null
-- where there are too few, or all had as many.
SELECT avg(seconds) AS average, regr_slope(seconds, events) AS for_each, regr_intercept(seconds, events) AS for_all
FROM (
    SELECT extract(epoch FROM finished_at - started_at)::float8 AS seconds,
           (counters ->> %(measure)s)::float8 AS events
    FROM mauntic_jobs.runs
    WHERE job = %(job)s AND status = 'succeeded'
    ORDER BY started_at DESC
    LIMIT %(history)s
) AS latest

-- list -- List backfills, latest first, with how many of their windows stand how. `id` may be null.
-- `silent` is how long no process has worked on it.
SELECT backfill.id, backfill.job, backfill.range_start, backfill.range_end, backfill.options, backfill.reprocess,
       backfill.newest_first, backfill.parallel, backfill.stop_after_failures, backfill.state, backfill.reason,
       backfill.created_at, beat.worked_at, backfill.ended_at, backfill.host, backfill.pid,
       clock_timestamp() - beat.worked_at AS silent, counts.*
FROM mauntic_jobs.backfills AS backfill
CROSS JOIN LATERAL (
    SELECT greatest(backfill.worked_at, max(run.heartbeat_at)) AS worked_at
    FROM mauntic_jobs.runs AS run
    WHERE run.backfill_id = backfill.id AND run.status = 'running'
) AS beat
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE progress.state = 'done') AS done,
           count(*) FILTER (WHERE progress.state = 'done' AND progress.reason IS NOT NULL) AS partial,
           count(*) FILTER (WHERE progress.state = 'failed') AS failed,
           count(*) FILTER (WHERE progress.state = 'skipped') AS skipped,
           count(*) FILTER (WHERE progress.state = 'running') AS running,
           count(*) FILTER (WHERE progress.state = 'waiting') AS waiting,
           count(*) FILTER (WHERE progress.state = 'canceled') AS canceled
    FROM mauntic_jobs.backfill_progress AS progress
    WHERE progress.backfill_id = backfill.id
) AS counts
WHERE (%(id)s::bigint IS NULL OR backfill.id = %(id)s) AND (NOT %(open)s OR backfill.ended_at IS NULL)
ORDER BY backfill.id DESC
LIMIT %(limit)s

-- windows -- List the windows of a backfill, oldest first.
SELECT window_start, window_end, found, state, reason, run_id, counters
FROM mauntic_jobs.backfill_progress
WHERE backfill_id = %(id)s
ORDER BY window_start

-- touch -- Show that a process works on a backfill, and tell how it stands.
UPDATE mauntic_jobs.backfills
SET worked_at = clock_timestamp(), host = %(host)s, pid = %(pid)s
WHERE id = %(id)s
RETURNING state

-- next -- Name the first window that is to be run now: of those that wait, unless only failed ones are wanted, and of
-- those that failed before they were to be tried again. `running`: whether windows are being run.
SELECT next.window_start, next.window_end,
       EXISTS (
           SELECT FROM mauntic_jobs.backfill_progress WHERE backfill_id = %(id)s AND state = 'running'
       ) AS running
FROM mauntic_jobs.backfills AS backfill
LEFT JOIN LATERAL (
    SELECT progress.window_start, progress.window_end
    FROM mauntic_jobs.backfill_progress AS progress
    WHERE progress.backfill_id = backfill.id
      AND (
          (progress.state = 'waiting' AND NOT %(failed_only)s)
          OR (progress.state = 'failed' AND progress.started_at < backfill.retried_at)
      )
    ORDER BY progress.position
    LIMIT 1
) AS next ON true
WHERE backfill.id = %(id)s

-- running -- Name the run that has a window of a backfill under way.
SELECT id
FROM mauntic_jobs.runs
WHERE backfill_id = %(id)s AND window_start = %(window_start)s AND status = 'running'

-- count_failure -- Count a failed run, and pause the backfill if there are too many.
UPDATE mauntic_jobs.backfills
SET failures = failures + 1,
    state = CASE WHEN failures + 1 >= stop_after_failures THEN 'paused' ELSE state END,
    reason = CASE WHEN failures + 1 >= stop_after_failures THEN %(reason)s ELSE reason END
WHERE id = %(id)s AND state = 'active'

-- pause -- Pause a backfill, if it is active.
UPDATE mauntic_jobs.backfills SET state = 'paused', reason = %(reason)s WHERE id = %(id)s AND state = 'active'

-- cancel -- Cancel a backfill, if it is not over.
UPDATE mauntic_jobs.backfills
SET state = 'canceled', reason = %(reason)s, ended_at = clock_timestamp()
WHERE id = %(id)s AND ended_at IS NULL

-- resume -- Let a backfill go on, unless it was canceled; its failed windows are tried again.
UPDATE mauntic_jobs.backfills
SET state = 'active', reason = NULL, failures = 0, ended_at = NULL,
    retried_at = clock_timestamp(), worked_at = clock_timestamp(), host = %(host)s, pid = %(pid)s
WHERE id = %(id)s AND state <> 'canceled'

-- finish -- End an active backfill if none of its windows waits or is being run.
UPDATE mauntic_jobs.backfills
SET state = 'ended', ended_at = clock_timestamp()
WHERE id = %(id)s AND state = 'active'
  AND NOT EXISTS (
      SELECT FROM mauntic_jobs.backfill_progress
      WHERE backfill_id = %(id)s AND state IN ('waiting', 'running')
  )
