-- Why a contact is in a journey or not. Ids are uuid; times of the platform are `timestamp` in UTC.

-- journey -- Find a journey.
SELECT organization_id, name, status FROM journey.journeys WHERE id = %(journey)s

-- unknown_contact -- Tell whether an organization lacks a contact.
SELECT NOT EXISTS (
    SELECT FROM crm.contacts WHERE id = %(contact)s AND organization_id = %(organization)s
) AS unknown

-- triggers -- List the segment triggers of a journey, whatever its status, as those of active ones are listed for a run.
SELECT trigger.id, trigger.organization_id, trigger.config,
       journey.id AS journey_id, journey.name AS journey, journey.organization_id AS journey_organization_id
FROM journey.journey_triggers AS trigger
INNER JOIN journey.journeys AS journey
    ON journey.id = trigger.journey_id AND journey.organization_id = trigger.organization_id
WHERE trigger.type = 'segment' AND trigger.journey_id = %(journey)s AND trigger.organization_id = %(organization)s
ORDER BY trigger.id

-- segment -- Name a segment, and tell when the contact was added to its list, if it is a static one.
SELECT segment.name, (
    SELECT max(member.added_at) AT TIME ZONE 'UTC'
    FROM crm.segment_contacts AS member
    WHERE member.segment_id = segment.id AND member.contact_id = %(contact)s AND segment.type = 'static'
) AS added_at
FROM crm.segments AS segment
WHERE segment.id = %(segment)s AND segment.organization_id = %(organization)s

-- entries -- Tell what of a contact's executions keeps it from entering a journey, by the entry rules of a trigger at an
-- instant, as the statement `candidates` has them: no_entry_since, cap and cap_since. `capped_at` is when the oldest of
-- the latest executions began that fill the cap.
SELECT (array_agg(execution.id) FILTER (WHERE execution.status = 'active'))[1] AS active,
       (max(execution.started_at) FILTER (WHERE execution.status = 'active')) AT TIME ZONE 'UTC' AS active_since,
       coalesce(bool_or(execution.started_at > %(no_entry_since)s), false) AS too_soon,
       max(execution.started_at) AT TIME ZONE 'UTC' AS entered_at,
       count(*) FILTER (WHERE execution.started_at > %(cap_since)s::timestamp) AS entries,
       (array_agg(execution.started_at ORDER BY execution.started_at DESC))[%(cap)s::int] AT TIME ZONE 'UTC' AS capped_at
FROM journey.journey_executions AS execution
WHERE execution.journey_id = %(journey)s AND execution.contact_id = %(contact)s
  AND execution.organization_id = %(organization)s

-- executions -- List a contact's executions of a journey, latest first. The run that began one is that of the job under
-- way when its row of the outbox was written; another program's execution has no such row. `asked_at` is when the
-- executor was asked to begin it.
SELECT execution.id, execution.status, execution.started_at AT TIME ZONE 'UTC' AS entered_at,
       execution.completed_at AT TIME ZONE 'UTC' AS ended_at, execution.current_step_id, version.version_number,
       run.id AS run, announced.id IS NOT NULL AS announced, announced.published_at AS asked_at
FROM journey.journey_executions AS execution
LEFT JOIN journey.journey_versions AS version
    ON version.id = execution.journey_version_id AND version.organization_id = execution.organization_id
LEFT JOIN mauntic_jobs.outbox AS announced
    ON announced.queue = 'journey:execute-step' AND announced.job_id = execution.id::text
LEFT JOIN LATERAL (
    SELECT runs.id
    FROM mauntic_jobs.runs
    WHERE runs.job = %(job)s AND runs.status = 'succeeded'
      AND runs.started_at <= announced.created_at AND runs.started_at > announced.created_at - interval '1 day'
      AND runs.finished_at >= announced.created_at
    ORDER BY runs.started_at DESC
    LIMIT 1
) AS run ON true
WHERE execution.journey_id = %(journey)s AND execution.contact_id = %(contact)s
  AND execution.organization_id = %(organization)s
ORDER BY execution.started_at DESC, execution.id
LIMIT %(limit)s

-- steps -- List the steps of an execution, as they began. The type of a step stands in the version's definition, or for
-- older journeys in its row.
SELECT entry.step_id, coalesce(defined.type, step.type) AS type, entry.status,
       entry.started_at AT TIME ZONE 'UTC' AS started_at, entry.completed_at AT TIME ZONE 'UTC' AS ended_at, entry.error
FROM journey.step_executions AS entry
INNER JOIN journey.journey_executions AS execution
    ON execution.id = entry.execution_id AND execution.organization_id = entry.organization_id
LEFT JOIN journey.journey_versions AS version
    ON version.id = execution.journey_version_id AND version.organization_id = execution.organization_id
LEFT JOIN LATERAL (
    SELECT each.value ->> 'type' AS type
    FROM jsonb_array_elements(
        CASE jsonb_typeof(version.definition -> 'steps') WHEN 'array' THEN version.definition -> 'steps' ELSE '[]' END
    ) AS each (value)
    WHERE lower(each.value ->> 'id') = entry.step_id::text
    LIMIT 1
) AS defined ON true
LEFT JOIN journey.journey_steps AS step
    ON step.id = entry.step_id AND step.organization_id = entry.organization_id
WHERE entry.execution_id = %(execution)s AND entry.organization_id = %(organization)s
ORDER BY entry.started_at, entry.id
LIMIT %(limit)s
