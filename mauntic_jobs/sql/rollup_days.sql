-- The sum of a day's rollups, by which another writer is noticed.

-- read -- Return the sum of a day's rollups as it is, and as it was recorded last (null if it never was).
SELECT
    coalesce((
        SELECT sum(count) FROM analytics.event_aggregates
        WHERE date = %(date)s AND channel IS NULL AND NOT starts_with(event_type, 'monthly:')
    ), 0)::bigint AS events,
    recorded.events AS recorded_events,
    recorded.recorded_at
FROM (VALUES (1)) AS always (one)
LEFT JOIN mauntic_jobs.rollup_days AS recorded ON recorded.date = %(date)s

-- hours -- Count the raw events of each hour since `start`, by its number. Parameters: start and end, timestamp, half-open.
SELECT floor(extract(EPOCH FROM created_at - %(start)s::timestamp) / 3600)::int AS number, count(*) AS events
FROM analytics.contact_activity
WHERE created_at >= %(start)s AND created_at < %(end)s AND NOT starts_with(event_type, 'monthly:')
GROUP BY 1
ORDER BY 1

-- record -- Record the sum of a day's rollups as they are now, and another writer if there was one.
INSERT INTO mauntic_jobs.rollup_days AS day (date, events, recorded_at, foreign_events, foreign_at)
SELECT
    %(date)s, coalesce(sum(count), 0), %(now)s, %(foreign_events)s::bigint,
    CASE WHEN %(foreign_events)s::bigint IS NOT NULL THEN %(now)s::timestamptz END
FROM analytics.event_aggregates
WHERE date = %(date)s AND channel IS NULL AND NOT starts_with(event_type, 'monthly:')
ON CONFLICT (date) DO UPDATE
SET
    events = EXCLUDED.events, recorded_at = EXCLUDED.recorded_at,
    foreign_events = coalesce(EXCLUDED.foreign_events, day.foreign_events),
    foreign_at = coalesce(EXCLUDED.foreign_at, day.foreign_at)

-- foreign -- List the days whose rollups another program has changed since an instant.
SELECT date, foreign_events, foreign_at FROM mauntic_jobs.rollup_days WHERE foreign_at >= %(since)s ORDER BY date
