-- Executions that are active in name only: started before the cutoff, no step of theirs has started or ended since, and
-- they do not wait: in a delay, or at a gate, which is a step that waits for an event and has a timeout.
-- Parameters: now, cutoff (timestamp, UTC), organizations, journeys (uuid[], null for all).

-- find -- Put the idle executions in a temporary table: first the stale ones, longest running first, then those waiting.
-- They are grouped, not looked up one by one, so that Postgres may read all steps once where that is quicker.
-- A wait is at most a hundred years long. CASE keeps a value from being cast before it is known to fit, which no other
-- order of evaluation does; the rounding, finer than a microsecond, keeps the smallest values within float8.
CREATE TEMPORARY TABLE mauntic_jobs_idle ON COMMIT DROP AS
WITH idle AS (
    SELECT execution.id, execution.journey_id, execution.current_step_id, execution.started_at,
           greatest(execution.started_at, max(entry.started_at), max(entry.completed_at)) AS idle_since,
           max(entry.started_at) FILTER (WHERE entry.step_id = execution.current_step_id) AS entered_at,
           coalesce(bool_or(entry.status = 'pending' AND entry.step_id = execution.current_step_id), false) AS pending
    FROM journey.journey_executions AS execution
    LEFT JOIN journey.step_executions AS entry ON entry.execution_id = execution.id
    WHERE execution.status = 'active'
      AND execution.started_at < %(cutoff)s
      AND (%(organizations)s::uuid[] IS NULL OR execution.organization_id = ANY (%(organizations)s::uuid[]))
      AND (%(journeys)s::uuid[] IS NULL OR execution.journey_id = ANY (%(journeys)s::uuid[]))
    GROUP BY execution.id
    HAVING greatest(execution.started_at, max(entry.started_at), max(entry.completed_at)) < %(cutoff)s
)
SELECT row_number() OVER (ORDER BY waiting, started_at, id)::int AS position,
       id, journey_id, current_step_id, idle_since, waiting, malformed
FROM (
    SELECT idle.id, idle.journey_id, idle.current_step_id, idle.started_at, idle.idle_since,
           coalesce(coalesce(idle.entered_at, idle.idle_since) + wait.length > %(now)s, false) AS waiting,
           step.id IS NOT NULL AND wait.length IS NULL AS malformed
    FROM idle
    LEFT JOIN journey.journey_steps AS step
        ON step.id = idle.current_step_id
        AND (step.type = 'delay' OR (idle.pending AND jsonb_typeof(step.config -> 'timeout') <> 'null'))
    CROSS JOIN LATERAL (
        SELECT CASE WHEN step.type = 'delay' THEN step.config -> 'duration' ELSE step.config -> 'timeout' END AS duration,
               CASE WHEN step.type = 'delay' THEN coalesce(step.config ->> 'unit', 'hours') ELSE 'hours' END AS unit
    ) AS given
    LEFT JOIN (
        VALUES ('minutes', interval '1 minute', 52560000), ('hours', '1 hour', 876000), ('days', '1 day', 36500)
    ) AS unit (name, length, most) ON unit.name = given.unit
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN jsonb_typeof(given.duration) = 'number' THEN given.duration::numeric
            WHEN jsonb_typeof(given.duration) = 'string' AND given.duration #>> '{}' ~ '^\s*[0-9]{1,12}([.][0-9]{1,12})?\s*$'
                THEN (given.duration #>> '{}')::numeric
        END AS value
    ) AS amount
    CROSS JOIN LATERAL (
        SELECT CASE WHEN amount.value BETWEEN 0 AND unit.most THEN
            round(amount.value, 12)::float8 * unit.length
        END AS length
    ) AS wait
) AS judged

-- summary -- Count the idle executions: stale, waiting, and those of the stale ones whose wait cannot be read.
SELECT count(*) FILTER (WHERE NOT waiting) AS stale,
       count(*) FILTER (WHERE waiting) AS waiting,
       count(*) FILTER (WHERE malformed) AS malformed
FROM pg_temp.mauntic_jobs_idle

-- by_journey -- Count the first `limit` stale executions by journey.
SELECT idle.journey_id, journey.name AS journey, count(*) AS executions
FROM pg_temp.mauntic_jobs_idle AS idle
LEFT JOIN journey.journeys AS journey ON journey.id = idle.journey_id
WHERE NOT idle.waiting AND idle.position <= %(limit)s
GROUP BY idle.journey_id, journey.name
ORDER BY executions DESC, idle.journey_id

-- index -- Let each batch be found without reading those before it.
CREATE UNIQUE INDEX ON pg_temp.mauntic_jobs_idle (position)

-- lock -- Lock the stale executions from position `first` to `last`, without those that an executor holds or has moved.
SELECT idle.position
FROM journey.journey_executions AS execution
JOIN pg_temp.mauntic_jobs_idle AS idle ON idle.id = execution.id
WHERE idle.position BETWEEN %(first)s AND %(last)s
  AND execution.status = 'active'
  AND execution.current_step_id IS NOT DISTINCT FROM idle.current_step_id
FOR UPDATE OF execution SKIP LOCKED

-- cancel -- Cancel and log the executions at `positions` (int[]), which are locked, unless a step of theirs was recorded
-- since they were found: a statement of its own, because only that sees what was committed before the lock was had.
-- `older_than` is the length of time that the log tells.
WITH canceled AS (
    UPDATE journey.journey_executions AS execution
    SET status = 'canceled', completed_at = %(now)s
    FROM pg_temp.mauntic_jobs_idle AS idle
    WHERE idle.position = ANY (%(positions)s::int[])
      AND execution.id = idle.id
      AND NOT EXISTS (
          SELECT FROM journey.step_executions AS entry
          WHERE entry.execution_id = idle.id
            AND (entry.started_at >= %(cutoff)s OR entry.completed_at >= %(cutoff)s)
      )
    RETURNING execution.id, execution.organization_id, idle.malformed,
              to_char(idle.idle_since, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS idle_since
), logged AS (
    INSERT INTO journey.execution_logs (execution_id, organization_id, level, message, metadata, created_at)
    SELECT id, organization_id, 'warn',
           concat('Canceled: active without any step since ', idle_since, ', more than ', %(older_than)s::text, ' ago',
                  CASE WHEN malformed THEN '; the duration of its current step cannot be read' END),
           jsonb_build_object('job', 'stale-execution-cleanup', 'idleSince', idle_since,
                              'olderThan', %(older_than)s::text, 'malformedDelay', malformed),
           %(now)s
    FROM canceled
)
SELECT count(*) AS canceled FROM canceled

-- unknown_organizations -- Name the given organizations that have no journey.
SELECT wanted.id
FROM unnest(%(organizations)s::uuid[]) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM journey.journeys AS journey WHERE journey.organization_id = wanted.id)
ORDER BY wanted.id

-- unknown_journeys -- Name the given journeys that do not exist, or not in the given organizations.
SELECT wanted.id
FROM unnest(%(journeys)s::uuid[]) AS wanted (id)
WHERE NOT EXISTS (
    SELECT FROM journey.journeys AS journey
    WHERE journey.id = wanted.id
      AND (%(organizations)s::uuid[] IS NULL OR journey.organization_id = ANY (%(organizations)s::uuid[]))
)
ORDER BY wanted.id
