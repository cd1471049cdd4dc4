-- The outbox: jobs to be put on BullMQ queues.

-- due -- Take the oldest unpublished jobs; others that publish at the same time take the next ones.
-- A job that was published but not marked so may have been finished and removed since: its execution then has steps, or
-- is no longer active, and it is not wanted again. A job whose id is not an execution's is always wanted.
SELECT job.id, job.queue, job.job_id, job.name, job.data,
       own.execution_id IS NULL OR (
           execution.status = 'active'
           AND NOT EXISTS (SELECT FROM journey.step_executions AS step WHERE step.execution_id = execution.id)
       ) AS wanted
FROM mauntic_jobs.outbox AS job
CROSS JOIN LATERAL (
    SELECT CASE WHEN job.queue = 'journey:execute-step'
                     AND job.job_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN job.job_id::uuid END
) AS own (execution_id)
LEFT JOIN journey.journey_executions AS execution ON execution.id = own.execution_id
WHERE job.published_at IS NULL
ORDER BY job.id
LIMIT %(limit)s
FOR UPDATE OF job SKIP LOCKED

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
