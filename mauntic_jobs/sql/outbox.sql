-- The outbox: jobs to be put on BullMQ queues.

-- queues -- The queues that unpublished jobs are for.
WITH RECURSIVE found (queue) AS (
    (SELECT queue FROM mauntic_jobs.outbox WHERE published_at IS NULL ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT job.queue
        FROM mauntic_jobs.outbox AS job
        WHERE job.published_at IS NULL AND job.queue > found.queue
        ORDER BY job.queue
        LIMIT 1
    )
    FROM found
    WHERE found.queue IS NOT NULL
)
SELECT queue FROM found WHERE queue IS NOT NULL

-- unpublished -- How many jobs are not published yet, so many at most.
SELECT count(*) AS jobs
FROM (SELECT FROM mauntic_jobs.outbox WHERE published_at IS NULL LIMIT %(most)s) AS unpublished

-- in_order -- Have the following statement follow the index: just after many jobs were added, the statistics know of none,
-- and all of them would be sorted for each batch.
SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)

-- due -- Take the oldest unpublished jobs of a queue after an id; others that publish at the same time take the next ones.
-- A job that was published but not marked so may have been finished and removed since: its execution then has steps, or
-- is no longer active, and it is not wanted again. A job whose id is not an execution's is always wanted.
WITH job AS MATERIALIZED (
    SELECT id, queue, job_id, name, data
    FROM mauntic_jobs.outbox
    WHERE published_at IS NULL AND queue = %(queue)s AND id > %(after)s
    ORDER BY id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
SELECT job.id, job.queue, job.job_id, job.name, job.data,
       own.execution_id IS NULL OR (
           execution.status = 'active'
           AND NOT EXISTS (SELECT FROM journey.step_executions AS step WHERE step.execution_id = execution.id)
       ) AS wanted
FROM job
CROSS JOIN LATERAL (
    SELECT CASE WHEN job.queue = 'journey:execute-step'
                     AND job.job_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN job.job_id::uuid END
) AS own (execution_id)
LEFT JOIN journey.journey_executions AS execution ON execution.id = own.execution_id
ORDER BY job.id

-- mark_published -- Record that jobs are on their queue, or no longer wanted there.
UPDATE mauntic_jobs.outbox SET published_at = %(now)s WHERE id = ANY (%(ids)s)

-- unmoved -- Published jobs of executions that are active and have no step, a page after the last id given.
SELECT job.id, job.job_id, execution.organization_id
FROM mauntic_jobs.outbox AS job
INNER JOIN journey.journey_executions AS execution
    ON execution.id = CASE
        WHEN job.queue = 'journey:execute-step' AND job.job_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            THEN job.job_id::uuid
    END
WHERE
    job.published_at IS NOT NULL AND job.id > %(after)s AND execution.status = 'active'
    AND NOT EXISTS (SELECT FROM journey.step_executions AS step WHERE step.execution_id = execution.id)
ORDER BY job.id
LIMIT %(limit)s

-- unpublish -- Have jobs published again.
UPDATE mauntic_jobs.outbox SET published_at = NULL WHERE id = ANY (%(ids)s)
