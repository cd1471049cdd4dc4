-- The ledger of runs. Who holds a claim, and whether they are alive, is judged by the database's clock alone: it is the
-- one clock that all hosts share, and a host whose own clock is off must not take over a run that is alive.

-- time -- Read the database's clock.
SELECT clock_timestamp() AS now

-- release_dead -- Mark the runs of a job whose owner has been silent for too long, by the owner's own measure, as lost.
-- Their slots are free again; one that was lost too often has failed, so that it is not in the way of later ones.
UPDATE mauntic_jobs.runs AS dead
SET status = CASE WHEN losses.last THEN 'failed' ELSE 'lost' END, finished_at = clock_timestamp(),
    claims_slot = losses.last,
    error = format('no sign of life from process %%s on %%s since %%s', dead.pid, dead.host, dead.heartbeat_at)
        || CASE WHEN losses.last THEN format('; lost %%s times, and given up', losses.before + 1) ELSE '' END
FROM mauntic_jobs.runs AS silent
CROSS JOIN LATERAL (
    SELECT count(*) AS before, silent.claims_slot AND count(*) >= %(losses)s - 1 AS last
    FROM mauntic_jobs.runs AS earlier
    WHERE earlier.job = silent.job AND earlier.slot = silent.slot AND earlier.status = 'lost'
      AND earlier.launcher <> 'cli'
) AS losses
WHERE dead.id = silent.id AND silent.job = %(job)s AND dead.status = 'running'
  AND dead.heartbeat_at < clock_timestamp() - coalesce(dead.takeover_after, %(takeover_after)s)
  AND silent.status = 'running'
RETURNING dead.id, dead.fencing_token, dead.host, dead.pid

-- terminate -- End what the lost run still has open in the database, so that its locks are free.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE application_name = %(name)s AND usename = current_user AND pid <> pg_backend_pid()

-- claim -- Start a run, unless an exclusive run of the job is under way, or the slot is claimed or has not struck yet by
-- the database's clock: then no row comes back. The run of a backfill's window is not exclusive, so that it keeps no other
-- run from starting; it waits for exclusive ones, and starts only while the backfill is active and its window is free, and
-- fewer than `at_most` windows are being run, if that is not null.
INSERT INTO mauntic_jobs.runs
    (job, slot, claims_slot, window_start, window_end, options, launcher, launcher_id, host, pid, version, attempt,
     exclusive, takeover_after, backfill_id, fencing_token, status)
SELECT %(job)s, %(slot)s, %(claims_slot)s, %(window_start)s, %(window_end)s, %(options)s, %(launcher)s,
       %(launcher_id)s, %(host)s, %(pid)s, %(version)s, %(attempt)s, %(exclusive)s,
       %(takeover_after)s, %(backfill)s, nextval('mauntic_jobs.fencing_tokens'), 'running'
WHERE (NOT %(claims_slot)s OR %(slot)s::timestamptz <= clock_timestamp())
  AND (
      %(backfill)s::bigint IS NULL
      OR (
          EXISTS (SELECT FROM mauntic_jobs.backfills WHERE id = %(backfill)s AND state = 'active')
          AND NOT EXISTS (
              SELECT FROM mauntic_jobs.runs WHERE job = %(job)s AND status = 'running' AND exclusive
          )
          AND (
              %(at_most)s::int IS NULL
              OR %(at_most)s > (
                  SELECT count(*) FROM mauntic_jobs.runs WHERE backfill_id = %(backfill)s AND status = 'running'
              )
          )
      )
  )
ON CONFLICT DO NOTHING
RETURNING id, fencing_token

-- lock_windows -- Let the windows of a backfill be claimed one after the other, until the transaction ends: they are counted.
SELECT pg_advisory_xact_lock(hashtextextended('mauntic-jobs/backfill windows/' || %(backfill)s, 0))

-- slot_claim -- Name the run that claims a slot.
SELECT id, status, launcher, host, started_at
FROM mauntic_jobs.runs
WHERE job = %(job)s AND slot = %(slot)s AND claims_slot

-- window_claim -- Say why the run of a backfill's window cannot start: the run that has the window, or the backfill's
-- state. No row comes back if neither is in its way.
SELECT claim.id AS run, backfill.state
FROM mauntic_jobs.backfills AS backfill
LEFT JOIN mauntic_jobs.runs AS claim
    ON claim.backfill_id = backfill.id AND claim.window_start = %(window_start)s
    AND claim.status IN ('running', 'succeeded')
WHERE backfill.id = %(backfill)s AND (claim.id IS NOT NULL OR backfill.state <> 'active')

-- owner -- Name the run that holds the claim.
SELECT id, host, pid, launcher, started_at, heartbeat_at
FROM mauntic_jobs.runs
WHERE job = %(job)s AND status = 'running' AND exclusive

-- record_ended -- Record a run that ended without ever holding a claim.
INSERT INTO mauntic_jobs.runs
    (job, slot, window_start, window_end, options, launcher, launcher_id, host, pid, version, attempt, exclusive,
     fencing_token, status, finished_at, error)
VALUES
    (%(job)s, %(slot)s, %(window_start)s, %(window_end)s, %(options)s, %(launcher)s, %(launcher_id)s, %(host)s, %(pid)s,
     %(version)s, %(attempt)s, %(exclusive)s, nextval('mauntic_jobs.fencing_tokens'), %(status)s, clock_timestamp(),
     %(error)s)
RETURNING id

-- heartbeat -- Show a sign of life. No row is updated once the run is another's.
UPDATE mauntic_jobs.runs
SET heartbeat_at = clock_timestamp()
WHERE id = %(id)s AND fencing_token = %(fencing_token)s AND status = 'running'

-- next_attempt -- Begin another attempt, with the error that ended the one before.
UPDATE mauntic_jobs.runs
SET attempt = %(attempt)s, error = %(error)s, heartbeat_at = clock_timestamp()
WHERE id = %(id)s AND fencing_token = %(fencing_token)s AND status = 'running'

-- succeed -- Record success; executed last in the transaction that writes. No row is updated once the run is another's.
UPDATE mauntic_jobs.runs
SET status = 'succeeded', counters = %(counters)s, error = %(problems)s,
    heartbeat_at = clock_timestamp(), finished_at = clock_timestamp()
WHERE id = %(id)s AND fencing_token = %(fencing_token)s AND status = 'running'

-- fail -- Record failure, if the run is still this process's and has not ended.
UPDATE mauntic_jobs.runs
SET status = 'failed', error = %(error)s, finished_at = clock_timestamp()
WHERE id = %(id)s AND fencing_token = %(fencing_token)s AND status = 'running'

-- stop -- Record that a run was stopped, if it is still this process's and has not ended. Its slot is free again.
UPDATE mauntic_jobs.runs
SET status = 'stopped', error = %(error)s, finished_at = clock_timestamp(), claims_slot = false
WHERE id = %(id)s AND fencing_token = %(fencing_token)s AND status = 'running'

-- state -- Tell how a run stands.
SELECT status, counters FROM mauntic_jobs.runs WHERE id = %(id)s

-- lock_bucket -- Wait until no other transaction writes this bucket, and keep others from it until the commit.
SELECT pg_advisory_xact_lock(hashtextextended(%(bucket)s, 0))

-- list -- List runs, latest first. Every filter may be null.
SELECT id, job, slot, claims_slot, window_start, window_end, options, launcher, launcher_id, host, pid, version, attempt,
       status,
       started_at, heartbeat_at, finished_at, counters, error, fencing_token,
       extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at)::float8 AS seconds
FROM mauntic_jobs.runs
WHERE (%(id)s::bigint IS NULL OR id = %(id)s)
  AND (%(job)s::text IS NULL OR job = %(job)s)
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(since)s::timestamptz IS NULL OR started_at >= %(since)s)
ORDER BY id DESC
LIMIT %(limit)s
