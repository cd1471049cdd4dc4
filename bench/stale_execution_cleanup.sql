-- Executions to measure with, the replaced way of working, and an executor beside them.
-- Ids are hashes of numbers, so that every run makes the same rows. Of 48 executions that started over a week ago, one
-- is stale, one waits in a delay, one had a step today and 45 have ended; the last 4 % started this week and are active.

-- journeys -- Make 200 journeys of 20 organizations, each with an action, a day's delay, a long one and a broken one.
WITH journeys AS (
    INSERT INTO journey.journeys (id, organization_id, name, status)
    SELECT md5('journey ' || number)::uuid, md5('organization ' || number %% 20)::uuid, 'Journey ' || number, 'active'
    FROM generate_series(0, 199) AS number
    RETURNING id, organization_id
)
INSERT INTO journey.journey_steps (id, journey_version_id, organization_id, type, config)
SELECT md5(journeys.id || name)::uuid, journeys.id, journeys.organization_id, kind, config
FROM journeys, (VALUES
    ('action', 'action', '{"type": "action"}'::jsonb),
    ('day', 'delay', '{"type": "delay", "duration": 1, "unit": "days"}'),
    ('long', 'delay', '{"type": "delay", "duration": 500, "unit": "days"}'),
    ('broken', 'delay', '{"type": "delay", "duration": "soon", "unit": "days"}')
) AS steps (name, kind, config)

-- unindexed_executions -- Leave the key of the ids for later: one sort is quicker than an insertion for each row.
ALTER TABLE journey.journey_executions DROP CONSTRAINT journey_executions_pkey

-- unindexed_steps -- Leave the key of the ids for later.
ALTER TABLE journey.step_executions DROP CONSTRAINT step_executions_pkey

-- executions -- Append the executions, in the order of their start, over a year.
-- Parameters: executions (how many), now (timestamp, UTC).
INSERT INTO journey.journey_executions
    (id, journey_id, journey_version_id, organization_id, contact_id, status, started_at, completed_at, current_step_id)
SELECT md5('execution ' || number)::uuid, journey, journey, organization, md5('contact ' || number)::uuid,
       CASE WHEN young OR number %% 48 < 3 THEN 'active' ELSE 'completed' END,
       started_at,
       CASE WHEN young OR number %% 48 < 3 THEN NULL ELSE started_at + interval '4 hours' END,
       md5(journey || CASE
           WHEN young OR number %% 48 = 2 THEN 'action'
           WHEN number %% 48 = 1 THEN 'long'
           WHEN number %% 480 = 0 THEN 'day'
           WHEN number %% 4800 = 48 THEN 'broken'
           ELSE 'action'
       END)::uuid
FROM (
    SELECT number, number > 0.96 * %(executions)s AS young,
           md5('journey ' || hash)::uuid AS journey,
           md5('organization ' || hash %% 20)::uuid AS organization,
           %(now)s::timestamp - CASE
               WHEN number > 0.96 * %(executions)s
               THEN (%(executions)s - number) * (interval '6 days' / (0.04 * %(executions)s))
               ELSE interval '8 days' + (%(executions)s - number) * (interval '350 days' / %(executions)s)
           END AS started_at
    FROM generate_series(1, %(executions)s::int) AS number,
         LATERAL (SELECT (hashint4(number) & 2147483647) %% 200 AS hash) AS hashed
) AS drawn

-- steps -- Append four steps of each execution, an hour apart, among those of the executions of the same time.
-- Parameters: executions (how many), now (timestamp, UTC).
INSERT INTO journey.step_executions
    (id, execution_id, step_id, organization_id, status, started_at, completed_at, result)
SELECT md5('step ' || position)::uuid, md5('execution ' || number)::uuid,
       CASE WHEN number %% 48 = 1 AND step = 3 THEN md5(journey || 'long')::uuid ELSE md5(journey || 'action')::uuid END,
       md5('organization ' || hash %% 20)::uuid,
       CASE WHEN number %% 48 = 1 AND step = 3 THEN 'running' ELSE 'completed' END,
       begun, CASE WHEN number %% 48 = 1 AND step = 3 THEN NULL ELSE begun + interval '1 minute' END,
       '{"ok": true}'
FROM (
    SELECT position, number, step, hash, md5('journey ' || hash)::uuid AS journey,
           %(now)s::timestamp - CASE
               WHEN number > 0.96 * %(executions)s OR (number %% 48 = 2 AND step = 3) THEN interval '1 day'
               ELSE interval '8 days' + (%(executions)s - number) * (interval '350 days' / %(executions)s)
                    - step * interval '1 hour'
           END AS begun
    FROM generate_series(0, 4 * %(executions)s::bigint + 15 * (%(executions)s / 8400)) AS position,
         LATERAL (SELECT (position %% 4)::int AS step,
                         (position / 4 - position %% 4 * (%(executions)s / 8400))::int AS number) AS placed,
         LATERAL (SELECT (hashint4(number) & 2147483647) %% 200 AS hash) AS hashed
    WHERE number BETWEEN 1 AND %(executions)s
) AS drawn

-- indexed_executions -- Build the key that was left for later.
ALTER TABLE journey.journey_executions ADD PRIMARY KEY (id)

-- indexed_steps -- Build the key that was left for later.
ALTER TABLE journey.step_executions ADD PRIMARY KEY (id)

-- settled -- Do what autovacuum does in time.
VACUUM (ANALYZE) journey.journey_executions, journey.step_executions, journey.execution_logs

-- sizes -- Tell what was generated.
SELECT (SELECT count(*) FROM journey.journey_executions) AS executions,
       (SELECT count(*) FROM journey.journey_executions WHERE status = 'active') AS active,
       (SELECT count(*) FROM journey.step_executions) AS steps,
       pg_table_size('journey.journey_executions') AS executions_bytes,
       pg_table_size('journey.step_executions') AS steps_bytes

-- outcome -- Count what was canceled, and the logs, which must be as many.
SELECT (SELECT count(*) FROM journey.journey_executions WHERE status = 'canceled') AS canceled,
       (SELECT count(DISTINCT execution_id) FROM journey.execution_logs) AS logged

-- reactivate -- Undo the cancellations.
UPDATE journey.journey_executions SET status = 'active', completed_at = NULL WHERE status = 'canceled'

-- forget_logs -- Undo the logging.
TRUNCATE journey.execution_logs

-- naive_active -- Find what might be stale, as somebody would who thinks of one execution at a time.
SELECT id, organization_id, started_at, current_step_id
FROM journey.journey_executions
WHERE status = 'active'
ORDER BY id

-- naive_steps -- Read the steps of one execution.
SELECT step_id, started_at, completed_at FROM journey.step_executions WHERE execution_id = %(id)s

-- naive_delay -- Read the step that one execution is in.
SELECT config FROM journey.journey_steps WHERE id = %(current_step_id)s AND type = 'delay'

-- naive_cancel -- Cancel one execution.
UPDATE journey.journey_executions SET status = 'canceled', completed_at = %(now)s WHERE id = %(id)s

-- naive_log -- Log one cancellation.
INSERT INTO journey.execution_logs (execution_id, organization_id, level, message, created_at)
VALUES (%(id)s, %(organization_id)s, 'warn', 'Canceled: stale', %(now)s)

-- lively -- Name active executions that are not stale, for an executor to work on.
SELECT md5('execution ' || number)::uuid AS id
FROM generate_series((0.96 * %(executions)s)::int + 1, %(executions)s) AS number
LIMIT 10000

-- oldest -- Name the execution that the job cancels first.
SELECT md5('execution 48')::uuid AS id

-- touch -- Do what an executor does to an execution.
UPDATE journey.journey_executions SET current_step_id = current_step_id WHERE id = %(id)s

-- reach -- Wait for an execution that is locked.
SELECT FROM journey.journey_executions WHERE id = %(id)s FOR KEY SHARE
