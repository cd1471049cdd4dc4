-- For figure_changes.py: a day's events, and the statement that writes rollups without noting what they were.

-- events -- Make the events of one day: `groups` of the same size, of 20 types each, two events for each contact.
INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, created_at)
SELECT md5((n %% %(groups)s / 20)::text)::uuid, md5('contact' || n / 2)::uuid,
       'event_type_' || n %% 20, '2025-06-01'::timestamp + n * interval '1 day' / %(events)s
FROM generate_series(0, %(events)s - 1) AS n

-- forget -- Forget the day's rollups, so that each group is new.
DELETE FROM analytics.event_aggregates

-- lower -- Lower the day's rollups, so that each group changes.
UPDATE analytics.event_aggregates SET count = count - 1

-- notes -- Count what was noted.
SELECT coalesce(sum(cardinality(kinds)), 0)::bigint AS groups,
       pg_total_relation_size('mauntic_jobs.figure_changes') AS bytes
FROM mauntic_jobs.figure_changes

-- unnoted -- Write the groups that are new or differ, as before there were notes.
INSERT INTO analytics.event_aggregates AS recorded (organization_id, date, event_type, channel, count, unique_count)
SELECT organization_id, %(date)s, kind, NULL, new_count, new_unique_count
FROM pg_temp.mauntic_jobs_groups
WHERE new_count IS NOT NULL AND withheld IS NULL
  AND (old_count, old_unique_count) IS DISTINCT FROM (new_count, new_unique_count)
ORDER BY organization_id, kind
ON CONFLICT (organization_id, date, event_type, channel)
DO UPDATE SET count = excluded.count, unique_count = excluded.unique_count
WHERE (recorded.count, recorded.unique_count) IS DISTINCT FROM (excluded.count, excluded.unique_count)
