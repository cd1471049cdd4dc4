-- What Redis alone knew, as far as Postgres tells.

-- under_way -- Count by journey the active executions that have moved: the job of their next step was in Redis only.
SELECT execution.organization_id, execution.journey_id, journey.name AS journey, count(*) AS executions
FROM journey.journey_executions AS execution
LEFT JOIN journey.journeys AS journey
    ON journey.id = execution.journey_id AND journey.organization_id = execution.organization_id
WHERE
    execution.status = 'active'
    AND EXISTS (SELECT FROM journey.step_executions AS step WHERE step.execution_id = execution.id)
GROUP BY execution.organization_id, execution.journey_id, journey.name
ORDER BY executions DESC, execution.journey_id

-- launchers -- Name for each job what launched its latest slot.
SELECT DISTINCT ON (job) job, launcher
FROM mauntic_jobs.runs
WHERE claims_slot AND job = ANY (%(jobs)s)
ORDER BY job, slot DESC
