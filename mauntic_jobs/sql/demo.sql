-- The demo's sample activity.

-- lock -- Keep others from preparing this database until the transaction ends, or tell that another process prepares it.
SELECT pg_try_advisory_xact_lock(hashtextextended('mauntic-jobs/development database', 0)) AS locked

-- has_platform -- Tell whether the platform's tables are there.
SELECT to_regclass('analytics.contact_activity') IS NOT NULL AS present

-- is_empty -- Tell whether there is no activity at all.
SELECT NOT EXISTS (SELECT FROM analytics.contact_activity) AS empty

-- copy -- Load events; the time comes first, so that lines sort by it.
COPY analytics.contact_activity
    (created_at, id, contact_id, organization_id, event_type, event_source, event_data)
FROM STDIN

-- settle -- Do now what autovacuum would do within minutes: statistics, and the summary of the BRIN index.
VACUUM (ANALYZE) analytics.contact_activity
