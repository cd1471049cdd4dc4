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

-- segments -- Find segments.
SELECT id, organization_id, type, filter_criteria FROM crm.segments WHERE id = ANY (%(segments)s::uuid[])

-- versions -- Find the newest published version of each journey that has one, and the step at which a contact enters it:
-- the one that its trigger step leads to, or without a trigger step the first that no connection leads to. A trigger step
-- is never executed. Steps and connections stand in the version's definition, or for older journeys in rows of their own.
SELECT journey.id AS journey_id, newest.id, newest.has_trigger_step, newest.entry_step_id
FROM unnest(%(journeys)s::uuid[]) AS journey (id)
CROSS JOIN LATERAL (
    WITH version AS MATERIALIZED (
        SELECT
            id,
            CASE jsonb_typeof(definition -> 'steps') WHEN 'array' THEN definition -> 'steps' ELSE '[]' END AS steps,
            CASE jsonb_typeof(definition -> 'connections')
                WHEN 'array' THEN definition -> 'connections' ELSE '[]'
            END AS connections
        FROM journey.journey_versions
        WHERE journey_id = journey.id AND published_at <= %(now)s
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
) AS newest

-- static_members -- The condition that makes a contact a member of a static segment.
EXISTS (
    SELECT FROM crm.segment_contacts AS member
    WHERE member.segment_id = %(segment)s AND member.contact_id = contact.id
)

-- members_of_one -- List the members of one segment; {members} is the condition on a contact.
SELECT contact.id FROM crm.contacts AS contact WHERE contact.organization_id = %(organization)s AND {members}

-- values_table -- Make a temporary table of what many conditions compare, which each evaluation of the transaction fills
-- anew, like the next ones. Each is made once: a transaction holds a lock on every table that it made or dropped, and a
-- server has some thousands of locks.
CREATE TEMPORARY TABLE mauntic_jobs_values (
    id uuid NOT NULL, all_of varbit NOT NULL, any_of varbit NOT NULL,
    lead_score numeric, last_activity_at timestamp, created_at timestamp, updated_at timestamp,
    text_0 text, text_1 text, text_2 text, text_3 text, text_4 text, text_5 text, text_6 text, text_7 text
) ON COMMIT DROP

-- hits_table -- Make one of the contacts that are members of any segment: a bit for each segment.
CREATE TEMPORARY TABLE mauntic_jobs_hits (id uuid NOT NULL, hits varbit NOT NULL) ON COMMIT DROP

-- open_hits_table -- Make one of the same without the segments whose journey an execution keeps the contact out of.
CREATE TEMPORARY TABLE mauntic_jobs_open_hits (id uuid NOT NULL, hits varbit NOT NULL) ON COMMIT DROP

-- candidates_table -- Make one of those who may enter.
CREATE TEMPORARY TABLE mauntic_jobs_candidates (number bigint NOT NULL, trigger_number int NOT NULL, id uuid NOT NULL)
ON COMMIT DROP

-- empty -- Empty them.
TRUNCATE
    pg_temp.mauntic_jobs_values, pg_temp.mauntic_jobs_hits, pg_temp.mauntic_jobs_open_hits,
    pg_temp.mauntic_jobs_candidates

-- answers -- The subquery that answers conditions for a contact: {all_of} has a bit for each segment of which no condition
-- fails, {any_of} one for each segment of which a single condition is enough; {forms} are what the {conditions} compare.
-- OFFSET 0 keeps Postgres from putting these back to where they are used, where each would be made anew.
CROSS JOIN LATERAL (
    SELECT {all_of} AS all_of, {any_of} AS any_of
    FROM (SELECT {conditions} FROM (SELECT {forms} {source} OFFSET 0) AS field OFFSET 0) AS answer
    OFFSET 0
) AS {name}

-- values -- Read what many conditions compare, {columns} from {sources}, and answer the {others}, of all {contacts} or
-- of those that changed.
INSERT INTO pg_temp.mauntic_jobs_values (id, all_of, any_of{columns})
SELECT contact.id, others.all_of, others.any_of{sources}
FROM {contacts} AS contact
{others}
WHERE contact.organization_id = %(organization)s

-- analyze_values -- Let the planner know which values repeat.
ANALYZE pg_temp.mauntic_jobs_values ({columns})

-- hits_of_values -- Find the contacts that are members of any segment, by the values that were read; {laterals} answer the
-- conditions on them.
INSERT INTO pg_temp.mauntic_jobs_hits (id, hits)
SELECT found.id, found.hits
FROM (SELECT value.id, {hits} AS hits FROM pg_temp.mauntic_jobs_values AS value {laterals} OFFSET 0) AS found
WHERE found.hits <> {none}

-- hits -- Find them in one scan, where no field is asked by many conditions.
INSERT INTO pg_temp.mauntic_jobs_hits (id, hits)
SELECT found.id, found.hits
FROM (
    SELECT contact.id, {hits} AS hits
    FROM {contacts} AS contact
    {others}
    WHERE contact.organization_id = %(organization)s
    OFFSET 0
) AS found
WHERE found.hits <> {none}

-- static_hits -- Find the members of static segments.
INSERT INTO pg_temp.mauntic_jobs_hits (id, hits)
SELECT contact.id, bit_or(static.mask)
FROM unnest(%(segments)s::uuid[], %(masks)s::varbit[]) AS static (segment_id, mask)
INNER JOIN crm.segment_contacts AS member ON member.segment_id = static.segment_id
INNER JOIN {contacts} AS contact ON contact.id = member.contact_id
WHERE contact.organization_id = %(organization)s
GROUP BY contact.id

-- member_counts -- Count the members of each segment. Strings of bits cannot be hashed, their texts can.
SELECT asked.number, coalesce(sum(pattern.contacts), 0)::bigint AS members
FROM unnest(%(numbers)s::int[]) AS asked (number)
LEFT JOIN (
    SELECT hit.hits::text AS mask, count(*) AS contacts FROM pg_temp.mauntic_jobs_hits AS hit GROUP BY hit.hits::text
) AS pattern ON substr(pattern.mask, asked.number + 1, 1) = '1'
GROUP BY asked.number

-- open_hits -- Leave out the segments whose journey an execution keeps the contact out of. Where many are to be looked at,
-- to read the executions whole costs less than to find those of each contact and journey.
INSERT INTO pg_temp.mauntic_jobs_open_hits (id, hits)
SELECT hit.id, hit.hits & ~ coalesce(kept_out.hits, %(none)s::varbit)
FROM pg_temp.mauntic_jobs_hits AS hit
LEFT JOIN (
    SELECT execution.contact_id AS id, bit_or(rule.mask) AS hits
    FROM unnest(
        %(journeys)s::uuid[], %(masks)s::varbit[], %(no_entry_since)s::timestamp[]
    ) AS rule (journey_id, mask, no_entry_since)
    INNER JOIN journey.journey_executions AS execution ON execution.journey_id = rule.journey_id
    WHERE execution.status = 'active' OR execution.started_at > rule.no_entry_since
    GROUP BY execution.contact_id
) AS kept_out ON kept_out.id = hit.id
WHERE hit.hits & ~ coalesce(kept_out.hits, %(none)s::varbit) <> %(none)s::varbit

-- readings -- Count the contacts of an organization that only the documented reading of criteria makes members, and those
-- that only the platform's does; {strict} and {platform} are the conditions on a contact.
SELECT count(*) FILTER (WHERE {strict} AND NOT {platform}) AS only_strict,
       count(*) FILTER (WHERE {platform} AND NOT {strict}) AS only_platform
FROM crm.contacts AS contact
WHERE contact.organization_id = %(organization)s

-- candidates -- Number the members by {hits} that may enter the journey of their trigger now: not since they last entered
-- (no_entry_since: long ago for never again, far ahead for always), not while they are in it, and not more often than the
-- cap says. An index answers the first question without the table, in its order, and the others are asked of few. None is
-- answered from an index of active executions: as statistics may know of none yet, it would be read whole for each member.
INSERT INTO pg_temp.mauntic_jobs_candidates (number, trigger_number, id)
SELECT row_number() OVER (ORDER BY open.number, open.id) AS number, open.number AS trigger_number, open.id
FROM (
    SELECT member.number, member.journey_id, member.cap, member.cap_since, member.id
    FROM (
        SELECT rule.number, rule.journey_id, rule.no_entry_since, rule.cap, rule.cap_since, hit.id
        FROM unnest(
            %(numbers)s::int[], %(journeys)s::uuid[],
            %(no_entry_since)s::timestamp[], %(caps)s::int[], %(cap_since)s::timestamp[]
        ) AS rule (number, journey_id, no_entry_since, cap, cap_since)
        INNER JOIN (SELECT DISTINCT hits::text AS mask FROM {hits}) AS pattern
            ON substr(pattern.mask, rule.number + 1, 1) = '1'
        INNER JOIN {hits} AS hit ON hit.hits::text = pattern.mask
        ORDER BY rule.number, hit.id
        OFFSET 0
    ) AS member
    WHERE NOT EXISTS (
        SELECT FROM journey.journey_executions AS execution
        WHERE execution.journey_id = member.journey_id AND execution.contact_id = member.id
          AND execution.started_at > member.no_entry_since
    )
    OFFSET 0
) AS open
WHERE (
    SELECT bool_or(execution.status = 'active') FROM journey.journey_executions AS execution
    WHERE execution.journey_id = open.journey_id AND execution.contact_id = open.id
) IS NOT TRUE AND (open.cap IS NULL OR open.cap > (
    SELECT count(*) FROM journey.journey_executions AS execution
    WHERE execution.journey_id = open.journey_id AND execution.contact_id = open.id
      AND execution.started_at > open.cap_since
))

-- candidate_counts -- Count the candidates of each trigger that has any.
SELECT trigger_number AS number, count(*) AS candidates FROM pg_temp.mauntic_jobs_candidates GROUP BY trigger_number

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

-- plan_settings -- Have plans made for tables that are in memory: what changed was found by reading the contacts just
-- before. Compiling many conditions to machine code takes longer than to evaluate them.
SELECT set_config('random_page_cost', '1.1', true), set_config('jit', 'off', true)
