-- The slots of the jobs' cron lines: which are settled, which are claimed, and who claims them.

-- state -- For each job: how far its slots are settled, which ones after that are claimed, and whether a run is under way.
-- The claim of a dead owner does not count. A slot whose run was lost more than once is held for some minutes. This is all that is asked when nothing is due.
SELECT wanted.job, schedules.cron, schedules.settled, coalesce(schedules.former, '{}') AS former,
       schedules.previous_cron, schedules.previous_until,
       schedules.wanted_cron, schedules.wanted_catch_up, schedules.wanted_by, schedules.wanted_at,
       schedules.paused_until, schedules.paused_why, schedules.paused_by,
       (SELECT max(slot) FROM mauntic_jobs.runs WHERE runs.job = wanted.job AND claims_slot) AS latest,
       coalesce(claims.done, '{}') AS done,
       coalesce(claims.open, '{}') AS open,
       coalesce(losses.held, '{}') AS held,
       owner.id AS running, owner.host AS running_on
FROM unnest(%(jobs)s::text[]) AS wanted (job)
LEFT JOIN mauntic_jobs.schedules ON schedules.job = wanted.job
LEFT JOIN mauntic_jobs.runs AS owner
    ON owner.job = wanted.job AND owner.status = 'running' AND owner.exclusive
    AND owner.heartbeat_at >= clock_timestamp() - coalesce(owner.takeover_after, %(takeover_after)s)
LEFT JOIN LATERAL (
    SELECT array_agg(slot) FILTER (WHERE status <> 'running') AS done,
           array_agg(slot) FILTER (WHERE status = 'running') AS open
    FROM mauntic_jobs.runs
    WHERE runs.job = schedules.job AND claims_slot AND slot > schedules.settled
      AND (
          status <> 'running' OR heartbeat_at >= clock_timestamp() - coalesce(takeover_after, %(takeover_after)s)
      )
) AS claims ON true
LEFT JOIN LATERAL (
    SELECT array_agg(slot) AS held
    FROM (
        SELECT slot
        FROM mauntic_jobs.runs
        WHERE runs.job = schedules.job AND slot > schedules.settled AND status = 'lost' AND launcher <> 'cli'
        GROUP BY slot
        HAVING max(finished_at) > clock_timestamp() - (count(*) - 1) * %(pause)s::interval
    ) AS lost
) AS losses ON true

-- paused -- Read until when a job is paused.
SELECT paused_until, paused_why, paused_by FROM mauntic_jobs.schedules WHERE job = %(job)s

-- pause -- Let the slots of a job wait until an instant.
INSERT INTO mauntic_jobs.schedules (job, paused_until, paused_why, paused_by)
VALUES (%(job)s, %(until)s, %(why)s, %(by)s)
ON CONFLICT (job) DO UPDATE
SET paused_until = EXCLUDED.paused_until, paused_why = EXCLUDED.paused_why, paused_by = EXCLUDED.paused_by

-- resume -- End the pause of a job.
UPDATE mauntic_jobs.schedules SET paused_until = NULL, paused_why = NULL, paused_by = NULL WHERE job = %(job)s

-- taking_turns -- List the jobs whose cron line was changed back and forth within a day.
SELECT job, cron, set_by, previous_cron, previous_by, returns
FROM mauntic_jobs.schedules
WHERE job = any(%(jobs)s::text[]) AND returns >= 2 AND changed_at > clock_timestamp() - interval '1 day'
ORDER BY job

-- installed -- Read when the first migration was applied.
SELECT min(applied_at) AS at FROM mauntic_jobs.migrations

-- pass_over -- Record slots that have struck and are not going to be run, unless they were claimed meanwhile.
INSERT INTO mauntic_jobs.runs
    (job, slot, claims_slot, window_start, window_end, launcher, launcher_id, host, pid, version, attempt, fencing_token,
     status, finished_at, error)
SELECT %(job)s, slot, true, window_start, window_end, %(launcher)s, %(launcher_id)s, %(host)s, %(pid)s, %(version)s, 0,
       nextval('mauntic_jobs.fencing_tokens'), status, clock_timestamp(), reason
FROM unnest(
    %(slots)s::timestamptz[], %(starts)s::timestamptz[], %(ends)s::timestamptz[], %(statuses)s::text[], %(reasons)s::text[]
) AS passed (slot, window_start, window_end, status, reason)
WHERE slot <= clock_timestamp()
ON CONFLICT DO NOTHING

-- settle -- Move forward how far the slots of a job are settled, never beyond the present. Nothing is written if another
-- clock has written since the record was read, because it may have changed the line.
-- Who changed the line, and how often it was changed back at once, is kept.
INSERT INTO mauntic_jobs.schedules AS known (job, cron, former, settled, set_by)
VALUES (%(job)s, %(cron)s, %(former)s::text[], least(%(settled)s, clock_timestamp()), %(set_by)s)
ON CONFLICT (job) DO UPDATE
SET cron = EXCLUDED.cron, former = EXCLUDED.former, settled = EXCLUDED.settled,
    set_by = CASE WHEN known.cron = EXCLUDED.cron THEN known.set_by ELSE EXCLUDED.set_by END,
    previous_cron = CASE WHEN known.cron = EXCLUDED.cron THEN known.previous_cron ELSE known.cron END,
    previous_by = CASE WHEN known.cron = EXCLUDED.cron THEN known.previous_by ELSE known.set_by END,
    previous_until = CASE WHEN known.cron = EXCLUDED.cron THEN known.previous_until ELSE %(at)s END,
    changed_at = CASE WHEN known.cron = EXCLUDED.cron THEN known.changed_at ELSE clock_timestamp() END,
    returns = CASE
        WHEN known.cron = EXCLUDED.cron THEN known.returns
        WHEN known.previous_cron = EXCLUDED.cron AND known.changed_at > clock_timestamp() - interval '1 day'
            THEN known.returns + 1
        ELSE 0
    END
WHERE known.cron IS NOT DISTINCT FROM %(known_cron)s AND known.settled IS NOT DISTINCT FROM %(known_settled)s
  AND known.former = %(known_former)s::text[]

-- stored -- List the jobs whose schedule is set in the database.
SELECT job, wanted_cron, wanted_catch_up, wanted_by, wanted_at
FROM mauntic_jobs.schedules
WHERE wanted_cron IS NOT NULL OR wanted_catch_up IS NOT NULL

-- store -- Set a job's cron line, catch-up policy or both; what is null stays as it is.
INSERT INTO mauntic_jobs.schedules AS known (job, wanted_cron, wanted_catch_up, wanted_by, wanted_at)
VALUES (%(job)s, %(cron)s, %(catch_up)s, %(by)s, clock_timestamp())
ON CONFLICT (job) DO UPDATE
SET wanted_cron = coalesce(EXCLUDED.wanted_cron, known.wanted_cron),
    wanted_catch_up = coalesce(EXCLUDED.wanted_catch_up, known.wanted_catch_up),
    wanted_by = EXCLUDED.wanted_by, wanted_at = EXCLUDED.wanted_at

-- unset -- Leave a job's schedule to the settings of each clock.
UPDATE mauntic_jobs.schedules
SET wanted_cron = NULL, wanted_catch_up = NULL, wanted_by = NULL, wanted_at = NULL
WHERE job = %(job)s

-- reset -- Take back that slots of the future are settled. Claims made before their slot had struck are void, back to
-- what is still caught up with, and their slots become due again; those passed over so early were never passed over.
WITH early AS (
    UPDATE mauntic_jobs.runs
    SET claims_slot = false,
        status = CASE WHEN status IN ('missed', 'superseded') THEN 'skipped' ELSE status END,
        error = CASE WHEN status IN ('missed', 'superseded') THEN 'passed over by a clock that was ahead' ELSE error END
    WHERE job = %(job)s AND claims_slot AND status <> 'running' AND slot > started_at + %(tolerance)s::interval
      AND slot > clock_timestamp() - %(within)s::interval
    RETURNING slot
)
UPDATE mauntic_jobs.schedules
SET settled = least(clock_timestamp(), (SELECT min(slot) FROM early) - interval '1 microsecond')
WHERE job = %(job)s AND settled > clock_timestamp()
RETURNING settled

-- overview -- For each job: its latest run that did something, its latest success, and what was passed over of late.
SELECT wanted.job, last.id AS run, last.status, last.started_at, last.slot, last.error,
       extract(epoch FROM coalesce(last.finished_at, clock_timestamp()) - last.started_at)::float8 AS seconds,
       passed.missed, passed.superseded, passed.latest_missed,
       coalesce(clocks.names, '{}') AS clocks
FROM unnest(%(jobs)s::text[]) AS wanted (job)
LEFT JOIN LATERAL (
    SELECT * FROM mauntic_jobs.runs
    WHERE runs.job = wanted.job AND status NOT IN ('missed', 'superseded', 'skipped')
    ORDER BY started_at DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status = 'missed') AS missed,
           count(*) FILTER (WHERE status = 'superseded') AS superseded,
           max(slot) FILTER (WHERE status = 'missed') AS latest_missed
    FROM mauntic_jobs.runs
    WHERE runs.job = wanted.job AND status IN ('missed', 'superseded') AND slot >= %(since)s
) AS passed ON true
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT launcher || ' on ' || coalesce(nullif(launcher_id, ''), host)) AS names
    FROM mauntic_jobs.runs
    WHERE runs.job = wanted.job AND claims_slot AND status NOT IN ('missed', 'superseded')
      AND started_at >= clock_timestamp() - interval '24 hours'
) AS clocks ON true

-- covering -- List the runs of a job, latest first, that may have covered the time up to an instant after it had passed.
-- `exact`: the run covered its window, and nothing around it.
SELECT window_start, window_end, coalesce(slot, started_at) AS began, backfill_id IS NOT NULL AS exact
FROM mauntic_jobs.runs
WHERE job = %(job)s AND status = 'succeeded' AND options::text = '{}'
  AND window_end >= %(end)s AND window_start < %(until)s AND coalesce(slot, started_at) >= %(end)s
ORDER BY id DESC
LIMIT %(most)s
