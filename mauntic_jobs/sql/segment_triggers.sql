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

-- members_of_one -- List the members of one segment; {members} is the condition on a contact.
SELECT contact.id FROM crm.contacts AS contact WHERE contact.organization_id = %(organization)s AND {members}

-- within -- The condition that limits an evaluation to the contacts that changed.
AND contact.id IN (
    SELECT changed.id FROM pg_temp.mauntic_jobs_changed AS changed WHERE changed.organization_id = %(organization)s
)

-- members_table -- Make a temporary table of members, which each evaluation of the transaction fills anew. It is made once:
-- a transaction holds a lock on every table that it made or dropped, and a server has some thousands of locks.
CREATE TEMPORARY TABLE mauntic_jobs_members (number int NOT NULL, id uuid NOT NULL) ON COMMIT DROP

-- candidates_table -- Make one of those who may enter, likewise.
CREATE TEMPORARY TABLE mauntic_jobs_candidates (number bigint NOT NULL, trigger_number int NOT NULL, id uuid NOT NULL)
ON COMMIT DROP

-- empty -- Empty them.
TRUNCATE pg_temp.mauntic_jobs_members, pg_temp.mauntic_jobs_candidates

-- members -- Find the members of several segments in one scan; {values} is what the conditions read of a contact, {hits}
-- makes the number of each segment whose condition holds, {within} may limit the contacts. OFFSET 0 keeps Postgres from
-- putting the values back into the conditions, where each would be read anew.
INSERT INTO pg_temp.mauntic_jobs_members (number, id)
SELECT hit.number, found.id
FROM (
    SELECT field.id, array_remove(ARRAY[{hits}]::int[], NULL) AS numbers
    FROM (
        SELECT contact.id{values}
        FROM crm.contacts AS contact
        WHERE contact.organization_id = %(organization)s {within}
        OFFSET 0
    ) AS field
    OFFSET 0
) AS found
CROSS JOIN LATERAL unnest(found.numbers) AS hit (number)

-- members_of_static -- Find the members of a static segment; {members} is the condition on a contact.
INSERT INTO pg_temp.mauntic_jobs_members (number, id)
SELECT %(number)s, contact.id
FROM crm.contacts AS contact
WHERE contact.organization_id = %(organization)s AND {members} {within}

-- analyze_members -- Let the planner know how many they are.
ANALYZE pg_temp.mauntic_jobs_members

-- readings -- Count the contacts of an organization that only the documented reading of criteria makes members, and those
-- that only the platform's does; {strict} and {platform} are the conditions on a contact.
SELECT count(*) FILTER (WHERE {strict} AND NOT {platform}) AS only_strict,
       count(*) FILTER (WHERE {platform} AND NOT {strict}) AS only_platform
FROM crm.contacts AS contact
WHERE contact.organization_id = %(organization)s

-- candidates -- Number the members that may enter the journey of their trigger now: not while they are in it, not since
-- they last entered (no_entry_since: long ago for never again, far ahead for always), and not more often than the cap
-- says.
INSERT INTO pg_temp.mauntic_jobs_candidates (number, trigger_number, id)
SELECT row_number() OVER (ORDER BY rule.number, member.id) AS number, rule.number AS trigger_number, member.id
FROM unnest(
    %(numbers)s::int[], %(journeys)s::uuid[], %(no_entry_since)s::timestamp[], %(caps)s::int[], %(cap_since)s::timestamp[]
) AS rule (number, journey_id, no_entry_since, cap, cap_since)
INNER JOIN pg_temp.mauntic_jobs_members AS member ON member.number = rule.number
WHERE NOT EXISTS (
    SELECT FROM journey.journey_executions AS execution
    WHERE execution.journey_id = rule.journey_id AND execution.contact_id = member.id
      AND (execution.status = 'active' OR execution.started_at > rule.no_entry_since)
) AND (rule.cap IS NULL OR rule.cap > (
    SELECT count(*) FROM journey.journey_executions AS execution
    WHERE execution.journey_id = rule.journey_id AND execution.contact_id = member.id
      AND execution.started_at > rule.cap_since
))

-- counts -- Count the members and the candidates of each trigger.
SELECT asked.number,
       coalesce(found.members, 0) AS members, coalesce(entering.candidates, 0) AS candidates
FROM unnest(%(numbers)s::int[]) AS asked (number)
LEFT JOIN (
    SELECT number, count(*) AS members FROM pg_temp.mauntic_jobs_members GROUP BY number
) AS found ON found.number = asked.number
LEFT JOIN (
    SELECT trigger_number, count(*) AS candidates FROM pg_temp.mauntic_jobs_candidates GROUP BY trigger_number
) AS entering ON entering.trigger_number = asked.number

-- enter -- Create the executions of a batch of candidates, and ask the executor to begin them.
-- A contact that another program or another trigger has let in meanwhile is passed over.
WITH entered AS (
    INSERT INTO journey.journey_executions
        (journey_id, journey_version_id, organization_id, contact_id, status, started_at, current_step_id)
    SELECT rule.journey_id, rule.version_id, %(organization)s, candidate.id, 'active', %(now)s, rule.entry_step_id
    FROM pg_temp.mauntic_jobs_candidates AS candidate
    INNER JOIN unnest(
        %(numbers)s::int[], %(journeys)s::uuid[], %(versions)s::uuid[], %(entry_steps)s::uuid[]
    ) AS rule (number, journey_id, version_id, entry_step_id) ON rule.number = candidate.trigger_number
    WHERE candidate.number > %(after)s AND candidate.number <= %(up_to)s
    ORDER BY candidate.number
    ON CONFLICT (journey_id, contact_id) WHERE status = 'active' DO NOTHING
    RETURNING id, journey_id, journey_version_id, contact_id, current_step_id
)
INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data)
SELECT 'journey:execute-step', entered.id, 'execute-step', json_build_object(
    'executionId', entered.id, 'stepId', entered.current_step_id, 'journeyId', entered.journey_id,
    'contactId', entered.contact_id, 'organizationId', %(organization)s::uuid, 'versionId', entered.journey_version_id
)
FROM entered

-- count_members -- Bring a dynamic segment's count up to date.
UPDATE crm.segments
SET contact_count = %(members)s
WHERE id = %(segment)s AND type = 'dynamic' AND contact_count <> %(members)s

-- limit_time -- Bound each of the following statements of the transaction.
SELECT set_config('statement_timeout', %(timeout)s, true)
