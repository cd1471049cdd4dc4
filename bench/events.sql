-- The generated events. Whatever looks random is a hash of the event's number, so that every run makes the same rows.

-- schema -- Where the generator keeps what it draws from.
CREATE SCHEMA bench

-- organizations -- 200 organizations whose sizes follow Zipf's law: the largest has 17 % of the events.
-- Parameters: contacts (of all organizations together).
CREATE TABLE bench.organizations AS
SELECT rank, md5('organization ' || rank)::uuid AS id,
       (sum(share) OVER (ORDER BY rank) - share)::float8 AS lower_bound,
       greatest(1, round(share * %(contacts)s))::int AS contacts
FROM (SELECT rank, (1.0 / rank) / sum(1.0 / rank) OVER () AS share FROM generate_series(1, 200) AS rank) AS shares

-- event_types -- 20 event types and their weights.
CREATE TABLE bench.event_types AS
SELECT rank, event_type,
       ((sum(weight) OVER (ORDER BY rank) - weight) / sum(weight) OVER ())::float8 AS lower_bound
FROM (VALUES
    (1, 'email_sent', 24.0), (2, 'email_delivered', 23.0), (3, 'page_viewed', 16.0), (4, 'email_opened', 11.0),
    (5, 'push_sent', 5.0), (6, 'push_delivered', 4.5), (7, 'email_clicked', 3.0), (8, 'sms_sent', 3.0),
    (9, 'sms_delivered', 2.9), (10, 'link_clicked', 2.0), (11, 'product_viewed', 2.0), (12, 'push_opened', 0.8),
    (13, 'cart_updated', 0.6), (14, 'email_bounced', 0.6), (15, 'form_submitted', 0.5), (16, 'login', 0.35),
    (17, 'sms_clicked', 0.3), (18, 'email_unsubscribed', 0.2), (19, 'order_placed', 0.2), (20, 'email_complained', 0.05)
) AS weights (rank, event_type, weight)

-- unindexed -- Leave the key of the ids for later: one sort is quicker than an insertion for each row.
ALTER TABLE analytics.contact_activity DROP CONSTRAINT contact_activity_pkey

-- day -- Append one day's events, evenly over the day, in the order of their time.
-- Parameters: first (the number of the day's first event), rows, start (timestamp, UTC).
INSERT INTO analytics.contact_activity
    (id, organization_id, contact_id, event_type, event_source, event_data, created_at)
WITH organizations AS (
    SELECT array_agg(id ORDER BY rank) AS ids, array_agg(lower_bound ORDER BY rank) AS lower_bounds,
           array_agg(contacts ORDER BY rank) AS contacts
    FROM bench.organizations
), types AS (
    SELECT array_agg(event_type ORDER BY rank) AS names, array_agg(lower_bound ORDER BY rank) AS lower_bounds
    FROM bench.event_types
), drawn AS (
    SELECT position, %(first)s::bigint + position AS number,
           width_bucket(
               (hashint8extended(%(first)s::bigint + position, 1) & 4294967295) / 4294967296.0::float8,
               organizations.lower_bounds
           ) AS organization,
           names[width_bucket(
               (hashint8extended(%(first)s::bigint + position, 2) & 4294967295) / 4294967296.0::float8,
               types.lower_bounds
           )] AS event_type,
           hashint8extended(%(first)s::bigint + position, 3) & 4294967295 AS draw
    FROM generate_series(0, %(rows)s - 1) AS position, organizations, types
)
SELECT md5('event ' || number)::uuid, ids[organization],
       md5(organization || ' contact ' || draw %% contacts[organization])::uuid, event_type,
       CASE WHEN event_type ~ '^(email|sms|push)_'
            THEN md5(organization || ' campaign ' || number / 200000)::uuid::text END,
       CASE WHEN event_type !~ '_(sent|delivered)$'
            THEN jsonb_build_object('url', 'https://example.com/' || draw %% 1000) END,
       %(start)s + position * (interval '1 day' / %(rows)s)
FROM drawn, organizations
ORDER BY position

-- indexed -- Build the key that was left for later.
ALTER TABLE analytics.contact_activity ADD PRIMARY KEY (id)

-- settled -- Do what autovacuum does in time: gather statistics, and summarize the new blocks for the BRIN index.
VACUUM (ANALYZE) analytics.contact_activity

-- described -- Tell what was generated.
-- Parameters: start, end (timestamp, UTC) of the last day.
SELECT pg_table_size('analytics.contact_activity') AS table_bytes,
       pg_relation_size('analytics.mauntic_jobs_contact_activity_created_at') AS brin_bytes,
       count(*) AS day_events,
       count(DISTINCT (organization_id, event_type)) AS day_groups,
       count(DISTINCT (organization_id, event_type, contact_id)) AS day_distinct
FROM analytics.contact_activity
WHERE created_at >= %(start)s AND created_at < %(end)s
