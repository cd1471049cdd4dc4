-- Segment triggers: contacts of a segment enter a journey. Times are `timestamp` in UTC.

-- triggers -- List the segment triggers of active journeys. Each filter may be null.
SELECT trigger.id, trigger.organization_id, trigger.config,
       journey.id AS journey_id, journey.name AS journey, journey.organization_id AS journey_organization_id
FROM journey.journey_triggers AS trigger
JOIN journey.journeys AS journey ON journey.id = trigger.journey_id
WHERE trigger.type = 'segment' AND journey.status = 'active'
  AND (%(organizations)s::uuid[] IS NULL OR trigger.organization_id = ANY (%(organizations)s::uuid[]))
  AND (%(journeys)s::uuid[] IS NULL OR journey.id = ANY (%(journeys)s::uuid[]))
  AND (%(triggers)s::uuid[] IS NULL OR trigger.id = ANY (%(triggers)s::uuid[]))
ORDER BY journey.id, trigger.id

-- segment -- Find a segment.
SELECT id, organization_id, type, filter_criteria FROM crm.segments WHERE id = %(segment)s

-- version -- Find the newest published version of a journey, and the step at which a contact enters it: the one that its
-- trigger step leads to, or without a trigger step the first that no connection leads to. A trigger step is never
-- executed. Steps and connections stand in the version's definition, or for older journeys in rows of their own.
WITH version AS MATERIALIZED (
    SELECT
        id,
        CASE jsonb_typeof(definition -> 'steps') WHEN 'array' THEN definition -> 'steps' ELSE '[]' END AS steps,
        CASE jsonb_typeof(definition -> 'connections')
            WHEN 'array' THEN definition -> 'connections' ELSE '[]'
        END AS connections
    FROM journey.journey_versions
    WHERE journey_id = %(journey)s AND published_at <= %(now)s
    ORDER BY version_number DESC, published_at DESC
    LIMIT 1
), step AS MATERIALIZED (
    SELECT lower(each.value ->> 'id') AS id, each.value ->> 'type' AS type, each.position
    FROM version
    CROSS JOIN jsonb_array_elements(version.steps) WITH ORDINALITY AS each (value, position)
    UNION ALL
    SELECT step.id::text, step.type, row_number() OVER (ORDER BY step.id)
    FROM version
    INNER JOIN journey.journey_steps AS step ON step.journey_version_id = version.id
    WHERE version.steps = '[]'
), connection AS MATERIALIZED (
    SELECT lower(each.value ->> 'from_step_id') AS from_id, lower(each.value ->> 'to_step_id') AS to_id, each.position
    FROM version
    CROSS JOIN jsonb_array_elements(version.connections) WITH ORDINALITY AS each (value, position)
    WHERE version.steps <> '[]'
    UNION ALL
    SELECT connection.from_step_id::text, connection.to_step_id::text, row_number() OVER (ORDER BY connection.id)
    FROM journey.journey_step_connections AS connection
    WHERE (SELECT steps FROM version) = '[]' AND connection.from_step_id::text IN (SELECT id FROM step)
)
SELECT
    version.id,
    EXISTS (SELECT FROM step WHERE type = 'trigger') AS has_trigger_step,
    (
        SELECT step.id::uuid
        FROM step
        LEFT JOIN connection ON connection.to_id = step.id
        LEFT JOIN step AS before ON before.id = connection.from_id
        WHERE step.type <> 'trigger' AND step.id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            AND CASE
                WHEN EXISTS (SELECT FROM step WHERE type = 'trigger') THEN before.type = 'trigger'
                ELSE connection.to_id IS NULL
            END
        ORDER BY connection.position, step.position
        LIMIT 1
    ) AS entry_step_id
FROM version

-- static_members -- The condition that makes a contact a member of a static segment.
EXISTS (
    SELECT FROM crm.segment_contacts AS member
    WHERE member.segment_id = %(segment)s AND member.contact_id = contact.id
)

-- members -- Put the members of a segment in a temporary table; {members} is the condition on a contact.
-- It is made by CREATE TABLE AS because Postgres scans in parallel for that, but not for INSERT ... SELECT.
CREATE TEMPORARY TABLE mauntic_jobs_members ON COMMIT DROP AS
SELECT contact.id FROM crm.contacts AS contact WHERE contact.organization_id = %(organization)s AND {members}

-- readings -- Count the contacts of an organization that only the documented reading of criteria makes members, and those
-- that only the platform's does; {strict} and {platform} are the conditions on a contact.
SELECT count(*) FILTER (WHERE {strict} AND NOT {platform}) AS only_strict,
       count(*) FILTER (WHERE {platform} AND NOT {strict}) AS only_platform
FROM crm.contacts AS contact
WHERE contact.organization_id = %(organization)s

-- candidates -- Number the members that may enter the journey now: not while they are in it, not since they last
-- entered (no_entry_since: long ago for never again, far ahead for always), and not more often than the cap says.
CREATE TEMPORARY TABLE mauntic_jobs_candidates ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY member.id) AS number, member.id
FROM pg_temp.mauntic_jobs_members AS member
WHERE NOT EXISTS (
    SELECT FROM journey.journey_executions AS execution
    WHERE execution.journey_id = %(journey)s AND execution.contact_id = member.id
      AND (execution.status = 'active' OR execution.started_at > %(no_entry_since)s)
) AND (%(cap)s::int IS NULL OR %(cap)s::int > (
    SELECT count(*) FROM journey.journey_executions AS execution
    WHERE execution.journey_id = %(journey)s AND execution.contact_id = member.id
      AND execution.started_at > %(cap_since)s
))

-- counts -- Count the members and the candidates.
SELECT (SELECT count(*) FROM pg_temp.mauntic_jobs_members) AS members,
       (SELECT count(*) FROM pg_temp.mauntic_jobs_candidates) AS candidates

-- enter -- Create the executions of a batch of candidates, and ask the executor to begin them.
-- A contact that another program has let in meanwhile is passed over.
WITH entered AS (
    INSERT INTO journey.journey_executions
        (journey_id, journey_version_id, organization_id, contact_id, status, started_at, current_step_id)
    SELECT %(journey)s, %(version)s, %(organization)s, candidate.id, 'active', %(now)s, %(entry_step)s
    FROM pg_temp.mauntic_jobs_candidates AS candidate
    WHERE candidate.number > %(after)s AND candidate.number <= %(up_to)s
    ON CONFLICT (journey_id, contact_id) WHERE status = 'active' DO NOTHING
    RETURNING id, contact_id
)
INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data)
SELECT 'journey:execute-step', entered.id, 'execute-step', json_build_object(
    'executionId', entered.id, 'stepId', %(entry_step)s::uuid, 'journeyId', %(journey)s::uuid,
    'contactId', entered.contact_id, 'organizationId', %(organization)s::uuid, 'versionId', %(version)s::uuid
)
FROM entered

-- count_members -- Bring a dynamic segment's count up to date.
UPDATE crm.segments
SET contact_count = %(members)s
WHERE id = %(segment)s AND type = 'dynamic' AND contact_count <> %(members)s

-- forget -- Drop the temporary tables, so that the next trigger can be evaluated in the same transaction.
DROP TABLE IF EXISTS pg_temp.mauntic_jobs_members, pg_temp.mauntic_jobs_candidates

-- limit_time -- Bound each of the following statements of the transaction.
SELECT set_config('statement_timeout', %(timeout)s, true)
