-- What bench/segment_trigger_eval.py measures on.

-- contacts -- Contacts of one organization, with values that segments can tell apart.
INSERT INTO crm.contacts (organization_id, email, first_name, lead_score, custom_fields, created_at, updated_at)
SELECT %(organization)s, 'contact' || n || '@example.com', 'Contact ' || n %% 1000, n %% 100,
       jsonb_build_object('bucket', n %% 100, 'plan', (ARRAY['free', 'pro', 'team'])[1 + n %% 3]),
       %(now)s - make_interval(secs => n), %(now)s
FROM generate_series(1, %(contacts)s) AS n

-- journey -- One journey with a published version, an entry step, a dynamic segment of 5 % of the contacts, a trigger.
WITH journey AS (
    INSERT INTO journey.journeys (organization_id, name, status)
    VALUES (%(organization)s, 'journey', 'active') RETURNING id
), version AS (
    INSERT INTO journey.journey_versions (journey_id, organization_id, version_number, definition, published_at)
    SELECT id, %(organization)s, 1, '{}', %(now)s - interval '1 day' FROM journey RETURNING id, journey_id
), step AS (
    INSERT INTO journey.journey_steps (journey_version_id, organization_id, type, config)
    SELECT id, %(organization)s, 'action', '{}' FROM version
), segment AS (
    INSERT INTO crm.segments (organization_id, name, type, filter_criteria)
    VALUES (%(organization)s, 'segment', 'dynamic', %(criteria)s) RETURNING id
), trigger AS (
    INSERT INTO journey.journey_triggers (journey_id, organization_id, type, config)
    SELECT journey.id, %(organization)s, 'segment', jsonb_build_object('type', 'segment', 'segmentId', segment.id)
    FROM journey, segment
)
SELECT version.journey_id, version.id AS version_id FROM version

-- past -- All but 1 % of the segment's members have been in the journey.
INSERT INTO journey.journey_executions
    (journey_id, journey_version_id, organization_id, contact_id, status, started_at)
SELECT %(journey)s, %(version)s, %(organization)s, contact.id, 'completed', %(now)s - interval '30 days'
FROM crm.contacts AS contact
WHERE (contact.custom_fields ->> 'bucket')::int BETWEEN %(low)s AND %(high)s
  AND abs(hashtext(contact.email)) %% 100 <> 0

-- quiet -- Keep the server's own upkeep out of the measurement.
ALTER TABLE crm.contacts SET (autovacuum_enabled = off);
ALTER TABLE journey.journey_executions SET (autovacuum_enabled = off);
ALTER TABLE mauntic_jobs.outbox SET (autovacuum_enabled = off)

-- change -- Change some of 1,000 contacts, and move a tenth of these to another bucket, and thereby into other segments.
UPDATE crm.contacts
SET first_name = first_name || '.',
    custom_fields = CASE WHEN abs(hashtext(email || 'moves')) %% 10 > 0 THEN custom_fields
        ELSE custom_fields || jsonb_build_object('bucket', ((custom_fields ->> 'bucket')::int + %(by)s) %% 100) END
WHERE organization_id = %(organization)s AND abs(hashtext(email || 'changes')) %% 1000 < %(of_1000)s

-- backend -- Name the process that serves this connection.
SELECT pg_backend_pid() AS backend

-- undo -- Take back what a round has let in.
DELETE FROM journey.journey_executions WHERE started_at >= %(now)s

-- empty_outbox -- Forget what a round has announced.
TRUNCATE mauntic_jobs.outbox

-- naive_contacts -- Every contact of the organization, as the naive way reads them.
SELECT id, email, first_name, lead_score, custom_fields FROM crm.contacts WHERE organization_id = %(organization)s

-- naive_entered -- Who has been in the journey.
SELECT contact_id FROM journey.journey_executions WHERE journey_id = %(journey)s

-- naive_enter -- Let one contact in.
INSERT INTO journey.journey_executions (journey_id, journey_version_id, organization_id, contact_id, status, started_at)
VALUES (%(journey)s, %(version)s, %(organization)s, %(contact)s, 'active', %(now)s)
