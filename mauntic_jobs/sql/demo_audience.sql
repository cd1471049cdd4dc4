-- The demo's contacts, segments, journeys and sending domains, made of the sample's events. Ids are hashes of names, so
-- that they are the same for the same events.
-- Parameters: now, today (timestamp, UTC).

-- contacts -- Add a contact for everybody who did something, with what they did lately.
INSERT INTO crm.contacts
    (id, organization_id, email, first_name, stage, custom_fields, lead_score, last_activity_at, created_at, updated_at)
SELECT contact_id, organization_id, 'contact-' || left(contact_id::text, 8) || '@example.com',
       'Contact ' || left(contact_id::text, 4),
       CASE WHEN count(*) FILTER (WHERE event_type = 'form_submitted') > 0 THEN 'lead' ELSE 'subscriber' END,
       jsonb_build_object('plan', (ARRAY['free', 'free', 'team', 'enterprise'])[1 + get_byte(uuid_send(contact_id), 0) %% 4]),
       least(99, 5 * count(*) FILTER (WHERE event_type LIKE '%%\_clicked')),
       max(created_at), min(created_at), %(now)s
FROM analytics.contact_activity
GROUP BY contact_id, organization_id

-- segments -- Add three segments to each organization, the third of them static.
INSERT INTO crm.segments (id, organization_id, name, type, filter_criteria, created_at, updated_at)
SELECT md5(organization_id || wanted.name)::uuid, organization_id, wanted.name, wanted.type, wanted.criteria, %(now)s, %(now)s
FROM (SELECT DISTINCT organization_id FROM crm.contacts) AS organization
CROSS JOIN (
    VALUES
        ('Clicked often, on a paid plan', 'dynamic', '{"operator": "and", "conditions": [
            {"field": "leadScore", "operator": "gte", "value": 10},
            {"field": "plan", "operator": "in", "value": ["team", "enterprise"]}]}'::jsonb),
        ('Asked for something', 'dynamic', '{"operator": "and", "conditions": [
            {"field": "stage", "operator": "eq", "value": "lead"}]}'),
        ('Invited to the preview', 'static', NULL)
) AS wanted (name, type, criteria)

-- members -- Put some contacts into the static segments.
INSERT INTO crm.segment_contacts (segment_id, contact_id, added_at)
SELECT segment.id, contact.id, %(now)s
FROM crm.segments AS segment
JOIN crm.contacts AS contact ON contact.organization_id = segment.organization_id
WHERE segment.type = 'static' AND get_byte(uuid_send(contact.id), 1) < 8

-- journeys -- Add a journey for each segment, and one that has been running for long.
INSERT INTO journey.journeys (id, organization_id, name, status, created_at, updated_at)
SELECT md5('journey' || id)::uuid, organization_id, 'When: ' || name, 'active', %(now)s, %(now)s FROM crm.segments
UNION ALL
SELECT md5('onboarding' || organization_id)::uuid, organization_id, 'Onboarding', 'active', %(now)s, %(now)s
FROM (SELECT DISTINCT organization_id FROM crm.contacts) AS organization

-- versions -- Publish a version of each journey.
INSERT INTO journey.journey_versions (id, journey_id, organization_id, version_number, definition, published_at, created_at)
SELECT md5('version' || id)::uuid, id, organization_id, 1, '{}', %(now)s::timestamp - interval '40 days', %(now)s
FROM journey.journeys

-- steps -- Give each version a trigger, a delay of 30 days and an action.
INSERT INTO journey.journey_steps (id, journey_version_id, organization_id, type, config)
SELECT md5(step.type || version.id)::uuid, version.id, version.organization_id, step.type, step.config
FROM journey.journey_versions AS version
CROSS JOIN (
    VALUES ('trigger', '{}'::jsonb), ('delay', '{"type": "delay", "duration": 30, "unit": "days"}'), ('action', '{}')
) AS step (type, config)

-- connections -- Connect the trigger to the delay, and that to the action.
INSERT INTO journey.journey_step_connections (from_step_id, to_step_id)
SELECT md5(pair.earlier || version.id)::uuid, md5(pair.later || version.id)::uuid
FROM journey.journey_versions AS version
CROSS JOIN (VALUES ('trigger', 'delay'), ('delay', 'action')) AS pair (earlier, later)

-- triggers -- Let each segment trigger its journey.
INSERT INTO journey.journey_triggers (id, journey_id, organization_id, type, config)
SELECT md5('trigger' || id)::uuid, md5('journey' || id)::uuid, organization_id, 'segment',
       jsonb_build_object('type', 'segment', 'segmentId', id)
FROM crm.segments

-- executions -- Let some contacts be in the long-running journey: idle for weeks, waiting for their delay, or new.
INSERT INTO journey.journey_executions
    (id, journey_id, journey_version_id, organization_id, contact_id, status, started_at, current_step_id)
SELECT md5('execution' || contact.id)::uuid, version.journey_id, version.id, contact.organization_id, contact.id, 'active',
       %(now)s::timestamp - make_interval(days => (ARRAY[20, 12, 2])[1 + kind]),
       md5((ARRAY['action', 'delay', 'action'])[1 + kind] || version.id)::uuid
FROM (
    SELECT id, organization_id, get_byte(uuid_send(id), 3) %% 3 AS kind
    FROM crm.contacts WHERE get_byte(uuid_send(id), 2) < 12
) AS contact
JOIN journey.journey_versions AS version
    ON version.journey_id = md5('onboarding' || contact.organization_id)::uuid

-- domains -- Give each organization a sending domain, the oldest of them no longer being warmed up.
INSERT INTO delivery.sending_domains (id, organization_id, domain, status, created_at)
SELECT md5('domain' || organization_id)::uuid, organization_id, 'mail-' || number || '.example.com', 'verified',
       %(today)s::timestamp - make_interval(days => 7 * number - 4)
FROM (
    SELECT organization_id, row_number() OVER (ORDER BY organization_id)::int AS number
    FROM (SELECT DISTINCT organization_id FROM crm.contacts) AS organization
) AS numbered
RETURNING organization_id, domain

-- all_domains -- List the sending domains.
SELECT organization_id::text AS organization_id, domain FROM delivery.sending_domains ORDER BY domain

-- outcomes -- Count the executions of the long-running journey by status.
SELECT execution.status, count(*)::int AS executions
FROM journey.journey_executions AS execution
JOIN journey.journeys AS journey ON journey.id = execution.journey_id
WHERE journey.name = 'Onboarding'
GROUP BY execution.status
ORDER BY execution.status
